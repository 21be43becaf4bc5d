// What the doctor reads from /proc, from texts as kernels write them and as they might be damaged.
#include "udpproxy/host/procfs.hpp"

#include <doctest/doctest.h>

namespace udpproxy {
namespace {

TEST_CASE(
    "a list of reserved ports has single ones and ranges, and what is neither is passed over") {
    CHECK(parse_port_list("8080,9148\n") == std::vector<PortRange>{{8080, 8080}, {9148, 9148}});
    CHECK(parse_port_list("1,2000-2003,65535") ==
          std::vector<PortRange>{{1, 1}, {2000, 2003}, {65535, 65535}});
    CHECK(parse_port_list("").empty());
    CHECK(parse_port_list("x,9-1,70000,3-").empty());
}

TEST_CASE("counters are found by group and name, in both forms of file") {
    const std::string snmp =
        "Ip: Forwarding DefaultTTL\nIp: 1 64\nUdp: InDatagrams NoPorts InErrors RcvbufErrors\nUdp: "
        "10 2 3 4\n";
    CHECK(find_counter(snmp, "Udp", "RcvbufErrors") == 4);
    CHECK(find_counter(snmp, "Ip", "DefaultTTL") == 64);
    CHECK_FALSE(find_counter(snmp, "Udp", "SndbufErrors"));
    CHECK_FALSE(find_counter(snmp, "Tcp", "RcvbufErrors"));
    CHECK_FALSE(find_counter("Udp: A B\nUdp: 1\n", "Udp", "B"));
    CHECK_FALSE(find_counter("Udp: A\nUdp: x\n", "Udp", "A"));
    CHECK(find_counter6("Udp6InDatagrams \t5\nUdp6RcvbufErrors\t6\n", "Udp6RcvbufErrors") == 6);
    CHECK_FALSE(find_counter6("Udp6InDatagrams 5\n", "Udp6RcvbufErrors"));
}

TEST_CASE("masks of a process are hexadecimal") {
    CHECK(find_mask("Name:\tx\nCapEff:\t0000000000001400\nSeccomp:\t2\n", "CapEff:") == 0x1400);
    CHECK(find_mask("Name:\tx\n", "CapEff:") == 0);
}

TEST_CASE("sockets are read with address, inode and drops, and short lines are passed over") {
    const std::string text =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  "
        "timeout inode ref pointer drops\n"
        " 4070: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        "
        "0 19862 2 0000000000000000 17\n"
        " 4071: 00000000000000000000000001000000:14E9 00000000000000000000000000000000:0000 07 "
        "00000000:00000000 00:00000000 00000000 0 0 "
        "77 2 0 0\n"
        " 4072: 0100007F:0035 00000000:0000 07\n"
        " 4073: 01007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 "
        "1 2 0000000000000000 1\n";
    const std::vector<SocketLine> sockets = parse_sockets(text);
    REQUIRE(sockets.size() == 2);
    CHECK(format(sockets[0].local) == "127.0.0.1:53");
    CHECK(sockets[0].inode == 19862);
    CHECK(sockets[0].drops == 17);
    CHECK(format(sockets[1].local) == "[::1]:5353");
}

TEST_CASE("listening sockets are told from connected ones, of TCP and of a path") {
    const std::string tcp =
        "   0: 0100007F:2382 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        "
        "0 "
        "4711 1 0000000000000000 100 0 0 10 0\n"
        "   1: 0100007F:2382 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        "
        "0 "
        "4712 1 0000000000000000 20 4 30 10 -1\n";
    const std::vector<SocketLine> sockets = parse_sockets(tcp);
    REQUIRE(sockets.size() == 2);
    CHECK((sockets[0].listens && !sockets[1].listens));

    const std::string unix_sockets =
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 1001 /run/udpproxy/admin.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 1002 /run/udpproxy/admin.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 1003 /srv/a b/admin.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 1004\n";
    CHECK(find_unix_listener(unix_sockets, "/run/udpproxy/admin.sock") == 1002);
    CHECK(find_unix_listener(unix_sockets, "/srv/a b/admin.sock") == 1003);
    CHECK_FALSE(find_unix_listener(unix_sockets, "b/admin.sock"));
    CHECK_FALSE(find_unix_listener(unix_sockets, "/run/udpproxy/admin"));
    CHECK_FALSE(find_unix_listener("", ""));
}

TEST_CASE("an IPv6 socket on every address may hold an IPv4 port, and no other way round") {
    const auto may = [](const char* held, const char* wanted) {
        return may_hold(parse_endpoint(held).value(), parse_endpoint(wanted).value());
    };
    CHECK(may("[::]:53", "192.0.2.1:53"));
    CHECK(may("[::]:53", "0.0.0.0:53"));
    CHECK(may("0.0.0.0:53", "192.0.2.1:53"));
    CHECK(may("192.0.2.1:53", "0.0.0.0:53"));
    CHECK_FALSE(may("[::]:54", "192.0.2.1:53"));
    CHECK_FALSE(may("[2001:db8::1]:53", "192.0.2.1:53"));
    CHECK_FALSE(may("0.0.0.0:53", "[::]:53"));
    CHECK_FALSE(may("192.0.2.2:53", "192.0.2.1:53"));
}

}  // namespace
}  // namespace udpproxy
