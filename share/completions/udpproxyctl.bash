# Completion of udpproxyctl for bash; bash-completion loads this file when the command is completed.

# shellcheck disable=SC2034,SC2154 # _init_completion sets the variables
_udpproxyctl() {
    local cur prev words cword split
    _init_completion -s || return

    # What stands before the word: the command, of one word or two, and the socket.
    local word command='' socket=() i
    for ((i = 1; i < cword; ++i)); do
        word=${words[i]}
        case $word in
            --socket) socket=("$word" "${words[++i]}") ;;
            --socket=*) socket=("$word") ;;
            --client | --proxy | --sort | --limit | --interval | --frames) ((++i)) ;;
            --write | --seconds | --datagrams | --probe | --probe-proxy) ((++i)) ;;
            -*) ;;
            *) command+=${command:+ }$word ;;
        esac
    done

    local options='' values=''
    case $command in
        '')
            options=--version
            values="status proxies unlisted drops metrics sessions top trace reload drain resume
                upgrade doctor session log"
            ;;
        sessions) options='--client --proxy --sort --limit' ;;
        top) options='--interval --frames' ;;
        trace) options='--client --write --seconds --datagrams' ;;
        doctor) options='--probe --probe-proxy' ;;
        drain | resume) values=PROXIES ;;
        session) values='kill' ;;
        log) values='level' ;;
        'log level') values='error warn info' ;;
    esac
    case $prev in
        --socket | --write)
            _filedir
            return
            ;;
        --proxy | --probe-proxy) values=PROXIES ;;
        --sort) values='bytes age idle' ;;
        --client | --limit | --interval | --frames | --seconds | --datagrams | --probe) return ;;
        *) [[ $cur != -* ]] || values="$options --help --json --socket" ;;
    esac
    if [[ $values == PROXIES ]]; then
        # compgen expands its words, so that only the letters of names may come from the program.
        values=$(timeout 1 "${words[0]}" "${socket[@]}" metrics 2>/dev/null |
            sed -n 's/^udpproxy_sessions{proxy="\([A-Za-z0-9_.-]*\)".*/\1/p')
    fi
    mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
} && complete -F _udpproxyctl udpproxyctl
