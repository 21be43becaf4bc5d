# Completion of udpproxyctl for fish.

# Whether the words before the cursor, without options and their values, are these.
function __udpproxyctl_at
    set -l words (commandline -opc)
    set -l said
    set -l i 2
    while test $i -le (count $words)
        switch $words[$i]
            case --socket --client --proxy --sort --limit --interval --frames --write --seconds \
                --datagrams --probe --probe-proxy
                set i (math $i + 1)
            case '-*'
            case '*'
                set -a said $words[$i]
        end
        set i (math $i + 1)
    end
    test "$said" = "$argv"
end

# The proxies of the running program.
function __udpproxyctl_proxies
    set -l words (commandline -opc)
    set -l socket (string match -- '--socket=*' $words)
    if set -l i (contains -i -- --socket $words)
        set socket --socket $words[(math $i + 1)]
    end
    timeout 1 $words[1] $socket metrics 2>/dev/null |
        string replace -rf '^udpproxy_sessions\{proxy="([A-Za-z0-9_.-]*)".*' '$1'
end

complete -c udpproxyctl -f
complete -c udpproxyctl -s h -l help -d 'Print what the command takes'
complete -c udpproxyctl -l socket -rF -d 'Path of the admin socket'
complete -c udpproxyctl -l json -d 'Print the answer as JSON'

set -l at complete -c udpproxyctl -n
$at __udpproxyctl_at -l version -d 'Print the version'
$at __udpproxyctl_at -a status -d 'What is wrong now, then version, uptime, utilisation, totals'
$at __udpproxyctl_at -a proxies -d 'Each proxy with its counters'
$at __udpproxyctl_at -a unlisted -d 'Sources of replies that are not listed'
$at __udpproxyctl_at -a drops -d 'Dropped datagrams by proxy and reason'
$at __udpproxyctl_at -a metrics -d 'Metrics for Prometheus'
$at __udpproxyctl_at -a sessions -d 'Active sessions'
$at __udpproxyctl_at -a top -d 'Live traffic view'
$at __udpproxyctl_at -a trace -d 'One client\'s datagrams'
$at __udpproxyctl_at -a reload -d 'Read the configuration again'
$at __udpproxyctl_at -a drain -d 'Accept no new sessions'
$at __udpproxyctl_at -a resume -d 'Accept new sessions again'
$at __udpproxyctl_at -a upgrade -d 'Put the installed program in place of this one'
$at __udpproxyctl_at -a doctor -d 'Diagnose missing replies'
$at __udpproxyctl_at -a session -d 'Act on one session'
$at __udpproxyctl_at -a log -d 'Act on the log'

$at '__udpproxyctl_at sessions' -l client -x -d 'Only of this client'
$at '__udpproxyctl_at sessions' -l proxy -x -a '(__udpproxyctl_proxies)' -d 'Only of this proxy'
$at '__udpproxyctl_at sessions' -l sort -x -a 'bytes age idle' -d 'Sort key, descending'
$at '__udpproxyctl_at sessions' -l limit -x -d 'How many at most'
$at '__udpproxyctl_at top' -l interval -x -d 'Seconds between frames'
$at '__udpproxyctl_at top' -l frames -x -d 'Quit after so many frames'
$at '__udpproxyctl_at trace' -l client -x -d 'Whose datagrams'
$at '__udpproxyctl_at trace' -l write -rF -d 'Write a capture file'
$at '__udpproxyctl_at trace' -l seconds -x -d 'Stop after so many seconds'
$at '__udpproxyctl_at trace' -l datagrams -x -d 'Stop after so many datagrams'
$at '__udpproxyctl_at doctor' -l probe -x -d 'Ask the upstream once'
$at '__udpproxyctl_at doctor' -l probe-proxy -x -a '(__udpproxyctl_proxies)' \
    -d 'Whose upstream is asked'
$at '__udpproxyctl_at drain' -a '(__udpproxyctl_proxies)' -d Proxy
$at '__udpproxyctl_at resume' -a '(__udpproxyctl_proxies)' -d Proxy
$at '__udpproxyctl_at session' -a kill -d 'End a session'
$at '__udpproxyctl_at log' -a level -d 'Show or set the minimum log level'
$at '__udpproxyctl_at log level' -a 'error warn info' -d 'Log level'
