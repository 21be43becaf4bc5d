# Completion of udpproxy for bash; bash-completion loads this file when the command is completed.

# shellcheck disable=SC2034,SC2154 # _init_completion sets the variables
_udpproxy() {
    local cur prev words cword split
    _init_completion -s || return
    case $prev in
        --config | --from-caddyfile)
            _filedir
            return
            ;;
        --set)
            mapfile -t COMPREPLY < <(compgen -W "
                alias_filter=auto alias_filter=connected alias_filter=open amplification_limit=
                datagram_max= dscp=copy dscp=clear end_after_replies= end_after_requests=
                idle_timeout= new_sessions_burst= new_sessions_per_second=
                offload=auto offload=off on_change=keep on_change=close path_mtu=want
                path_mtu=probe path_mtu=omit port_cooldown= ports= receive_buffer= replies_max=
                send_buffer= sessions_max= sessions_per_client_max= source= unassured_timeout=
                unlisted_replies=auto unlisted_replies=all unlisted_replies=off" -- "$cur")
            [[ ${COMPREPLY[*]} != *= ]] || compopt -o nospace
            # For bash a word begins anew behind =, and only that part is put in.
            [[ $COMP_WORDBREAKS != *=* || $cur != *=* ]] || COMPREPLY=("${COMPREPLY[@]#*=}")
            return
            ;;
        --listen | --upstream | --reply-alias | --name | --probe | --probe-proxy | --drain-timeout)
            return
            ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "
        --help --config --listen --upstream --reply-alias --name --set --print-config
        --check-config --from-caddyfile --doctor --json --probe --probe-proxy --drain-timeout
        --single-process --version" -- "$cur")
} && complete -F _udpproxy udpproxy
