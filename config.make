# The script that runs in Redis becomes a C string.

mkdir -p $NGX_OBJS/addon/vaani

cat << END                                                    >> $NGX_MAKEFILE

$NGX_OBJS/addon/vaani/vaani_transition_script.c: \\
	$ngx_addon_dir/src/core/transition.lua \\
	$ngx_addon_dir/tools/lua2c
	sh $ngx_addon_dir/tools/lua2c $ngx_addon_dir/src/core/transition.lua \\
		$ngx_addon_dir/src/core > \$@

END
