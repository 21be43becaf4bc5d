# Completion of udpproxy for fish.

complete -c udpproxy -f
complete -c udpproxy -s h -l help -d 'Print the options'
complete -c udpproxy -l config -rF -d 'The configuration'
complete -c udpproxy -l listen -x -d 'Where clients write to, of one proxy without a file'
complete -c udpproxy -l upstream -x -d 'Where its requests go'
complete -c udpproxy -l reply-alias -x -d 'Another address that the service may answer from'
complete -c udpproxy -l name -x -d 'What logs and metrics call the proxy'
complete -c udpproxy -l set -x -d 'Any other key of a proxy' -a '
    alias_filter={auto,connected,open} amplification_limit= datagram_max= dscp={copy,clear}
    end_after_replies= end_after_requests= idle_timeout=
    new_sessions_burst= new_sessions_per_second= offload={auto,off} on_change={keep,close}
    path_mtu={want,probe,omit} port_cooldown= ports= receive_buffer= replies_max= send_buffer=
    sessions_max= sessions_per_client_max= source= unassured_timeout=
    unlisted_replies={auto,all,off}'
complete -c udpproxy -l print-config -d 'Print the file that says the same'
complete -c udpproxy -s t -l check-config -d 'Check the configuration and this machine'
complete -c udpproxy -l from-caddyfile -rF -d 'Convert the proxy blocks of a Caddyfile'
complete -c udpproxy -l doctor -d 'Diagnose missing replies'
complete -c udpproxy -l json -d 'With --doctor: print JSON'
complete -c udpproxy -l probe -x -d 'With --doctor: ask the upstream once'
complete -c udpproxy -l probe-proxy -x -d 'Whose upstream is asked'
complete -c udpproxy -l drain-timeout -x -d 'How long a drain lasts at most'
complete -c udpproxy -l single-process -d 'Serve in one process'
complete -c udpproxy -l version -d 'Print the version'
