# Completion of vaani-calls for bash. A test compares the words with those of the
# program.
#
# shellcheck shell=bash

_vaani_calls()
{
    local cur prev word verb skip i
    local all own

    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()

    # Bash takes the "=" of --output=FILE for a word.
    if [[ $cur == '=' ]]; then
        cur=
    elif [[ $prev == '=' ]] && (( COMP_CWORD > 2 )); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    case $prev in
        --password-file | --sentinel-password-file | --cacert | --cert | --key | --output | -o | --spool-tool)
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            compopt -o filenames 2> /dev/null
            return
            ;;
        --spool)
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            compopt -o filenames 2> /dev/null
            return
            ;;
        --redis)
            mapfile -t COMPREPLY < <(compgen -W 'redis:// rediss:// unix:/' -- "$cur")
            compopt -o nospace 2> /dev/null
            return
            ;;
        --sentinel | --sentinel-user | --prefix | --partitions | --server-name | --timeout | --older | --around | \
            --interval | -n | --phone)
            return
            ;;
    esac

    # The command is the first word that is no option and no value of one.
    verb=
    skip=
    for (( i = 1; i < COMP_CWORD; i++ )); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' ]]; then
            skip=1
        elif [[ -n $skip ]]; then
            skip=
        else
            case $word in
                --redis | --password-file | --sentinel | --sentinel-password-file | --sentinel-user | --prefix | \
                    --partitions | --cacert | --cert | --key | --server-name | --timeout | --older | --around | \
                    --interval | -n | --output | -o | --phone | --spool | --spool-tool)
                    skip=1
                    [[ ${COMP_WORDS[i + 1]} == '=' ]] && skip=
                    ;;
                -*) ;;
                *)
                    verb=$word
                    break
                    ;;
            esac
        fi
    done

    all='--redis --password-file --sentinel --sentinel-password-file --sentinel-user --cluster --prefix --partitions
        --cacert --cert --key --server-name --insecure --timeout --help --version'

    case $verb in
        active) own='--older --count --json' ;;
        last) own='--json' ;;
        show) own='--stream --around --transcript --json' ;;
        watch) own='--older --interval' ;;
        metrics) own='--older --output' ;;
        erase) own='--phone --scan --stream --around --spool --spool-tool --unreadable --dry-run --yes' ;;
        *) own= ;;
    esac

    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$all $own" -- "$cur")
    elif [[ -z $verb ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'active last show watch metrics erase' -- "$cur")
    fi
}

complete -F _vaani_calls vaani-calls
