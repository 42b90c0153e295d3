# The script that runs in Redis and the status page become C strings.

mkdir -p $NGX_OBJS/addon/vaani

cat << END                                                    >> $NGX_MAKEFILE

$NGX_OBJS/addon/vaani/vaani_transition_script.c: \\
	$ngx_addon_dir/src/core/transition.lua \\
	$ngx_addon_dir/tools/lua2c
	sh $ngx_addon_dir/tools/lua2c $ngx_addon_dir/src/core/transition.lua \\
		$ngx_addon_dir/src/core > \$@

$NGX_OBJS/addon/vaani/ngx_http_vaani_page.c: \\
	$ngx_addon_dir/src/http/status/status.html \\
	$ngx_addon_dir/tools/page2c
	sh $ngx_addon_dir/tools/page2c $ngx_addon_dir/src/http/status/status.html \\
		$ngx_addon_dir/src/http/status > \$@

END
