// The only list of the configuration's keys. The reader takes known keys, words and bounds from it;
// docs/configuration.md and udpproxy.toml.example are tested against it. values.cpp and
// addresses.cpp parse the values, check.cpp checks what several keys must agree on.
#include "udpproxy/config/config.hpp"

namespace udpproxy {

const std::vector<ConfigKey>& config_keys() {
    // The words of a key stand in the order of its enumeration in config.hpp.
    static const std::vector<ConfigKey> keys{
        {"runtime", "engine", "word", "auto | io_uring | epoll", R"("auto")",
         "I/O back end; auto asks the kernel once."},
        {"runtime", "shards", "number or auto", "1 to 1024", R"("auto")",
         "Threads that forward; auto is one per CPU that the process may use."},
        {"runtime", "cpu_pinning", "boolean", "true | false", "false",
         "Whether each shard stays on a CPU of its own."},
        {"runtime", "busy_poll", "duration", "0us to 1ms", R"("0us")",
         "How long an idle shard polls for datagrams before it sleeps."},
        {"runtime", "batch_wait", "duration", "0us to 1ms", R"("0us")",
         "How long a shard that a few datagrams woke waits for more, to process them together."},
        {"log", "level", "word", "error | warn | info", R"("info")", "Minimum log level."},
        {"log", "format", "word", "text | json", R"("text")",
         "One line per event, as key=value or as JSON."},
        {"log", "file", "string", "", R"("")", "Where lines go; empty is standard error."},
        {"log", "sessions", "boolean", "true | false", "false",
         "Whether a summary line is written when a session ends."},
        {"limits", "sessions_max", "number or auto", "1 to 1048576", R"("auto")",
         "Sessions of all proxies together; auto is what descriptors allow."},
        {"limits", "new_sessions_per_second", "number", "0 to 1000000", "0",
         "New sessions a second, of all proxies together; 0 is no limit."},
        {"limits", "new_sessions_burst", "number or auto", "1 to 1048576", R"("auto")",
         "How many new sessions may come at once; auto is one second's worth."},
        {"limits", "pool_min", "number", "0 to 65536", "0",
         "Reply groups that each proxy keeps open in advance for new clients; 0 is none."},
        {"admin", "socket", "string", "", R"("/run/udpproxy/admin.sock")",
         "Unix socket for udpproxyctl; empty is none."},
        {"admin", "group", "string", "", R"("")",
         "Group that may use the socket, including changes; empty is the program's own group, "
         "read-only."},
        {"admin", "listen", "string", "", R"("")",
         "HTTP address for metrics, probes and the status page, read-only; empty is none."},
        {"admin", "allow_remote", "boolean", "true | false", "false",
         "Whether listen may be an address other than a loopback address."},
        {"proxy", "name", "string", "", "",
         "What logs and metrics call this proxy: 1 to 64 letters, digits, `_`, `.` or `-`."},
        {"proxy", "listen", "string or list", "1 to 16 entries", "",
         "Where clients write to: address:port, or :port for every address."},
        {"proxy", "upstream", "string", "", "", "Where requests go: address:port or name:port."},
        {"proxy", "on_change", "word", "keep | close", R"("keep")",
         "Sessions of an upstream that a reload changes: keep them on the old one, or close them."},
        {"proxy", "reply_aliases", "string or list", "0 to 64 entries", "[]",
         "Other addresses that the upstream may answer from."},
        {"proxy", "alias_filter", "word", "auto | connected | open", R"("auto")",
         "Who checks that a reply comes from an alias: the kernel, on one connected socket per "
         "alias, or the proxy, on one open socket."},
        {"proxy", "unlisted_replies", "word", "auto | all | off", R"("auto")",
         "Which sessions also watch for replies from addresses that are not listed, to count and "
         "name them."},
        {"proxy", "source", "string or list", "0 to 16 entries", "",
         "Local addresses towards the upstream; absent: chosen by routing."},
        {"proxy", "ports", "port range", "1-1 to 65535-65535", "",
         "Local ports towards the upstream; absent: the system's range."},
        {"proxy", "port_cooldown", "duration", "0s to 1h", R"("10s")",
         "How long the group of an ended session cools down before its next client."},
        {"proxy", "idle_timeout", "duration", "100ms to 7d", R"("5m")",
         "An assured session ends after this long without a datagram."},
        {"proxy", "unassured_timeout", "duration", "100ms to 7d", R"("30s")",
         "The same for all other sessions."},
        {"proxy", "sessions_max", "number or auto", "1 to 65536", R"("auto")",
         "Sessions of this proxy; auto is what descriptors and ports allow."},
        {"proxy", "sessions_per_client_max", "number", "0 to 65536", "0",
         "Sessions of one client: an IPv4 address or an IPv6 /64; 0 is no limit."},
        {"proxy", "new_sessions_per_second", "number", "0 to 1000000", "0",
         "New sessions a second of this proxy; 0 is no limit."},
        {"proxy", "new_sessions_burst", "number or auto", "1 to 1048576", R"("auto")",
         "How many new sessions of this proxy may come at once; auto is one second's worth."},
        {"proxy", "amplification_limit", "number", "0 to 1000", "0",
         "Bytes to a client that is not assured, as a multiple of the bytes from it; 0 is no "
         "limit."},
        {"proxy", "replies_max", "number", "0 to 65535", "0",
         "Reply datagrams for each datagram of a client; 0 is no limit."},
        {"proxy", "dscp", "word", "copy | clear", R"("copy")",
         "Whether the DSCP of a datagram is forwarded; ECN always is."},
        {"proxy", "path_mtu", "word", "want | probe | omit", R"("want")",
         "What to do with datagrams larger than a path takes: learn from ICMP, refuse at once, or "
         "always fragment."},
        {"proxy", "offload", "word", "auto | off", R"("auto")",
         "Whether datagrams pass through the kernel in trains where it can do that."},
        {"proxy", "receive_buffer", "size", "4KiB to 1GiB", R"("4MiB")",
         "Receive buffer of each listener; sockets towards the upstream get a quarter."},
        {"proxy", "send_buffer", "size", "4KiB to 1GiB", R"("4MiB")",
         "Send buffer of each listener."},
    };
    return keys;
}

}  // namespace udpproxy
