// What is believed of a ledger: records whose sockets are what they say. Each test makes sockets as
// a worker does, writes a ledger about them, and looks at what the next worker would take.
#include "udpproxy/runtime/predecessor.hpp"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "contract/peer.hpp"
#include "udpproxy/net/found_socket.hpp"
#include "udpproxy/net/group_sockets.hpp"
#include "udpproxy/net/listener.hpp"

namespace udpproxy::contract {
namespace {

using namespace std::chrono_literals;

std::vector<int> open_now() {
    std::vector<int> open;
    DIR* const directory = ::opendir("/proc/self/fd");
    REQUIRE(directory != nullptr);
    while (const dirent* entry = ::readdir(directory))
        if (const int number = std::atoi(entry->d_name); number != ::dirfd(directory))
            open.push_back(number);
    ::closedir(directory);
    return open;
}

bool is_open(int descriptor) { return ::fcntl(descriptor, F_GETFD) >= 0; }

/// A worker's listener and groups, with the ledger that tells of them. What no test has claimed is
/// closed at the end.
class Left {
public:
    Left() : ledger_(*Ledger::create({1, 64, 4})) {
        kept_ = open_now();  // the ledger and all that the test program has
        ListenerRequest request;
        request.endpoint = Endpoint{loopback(Family::ipv4), 0, next_port()};
        Result<ListenerSockets> opened = open_listeners(request, 1);
        REQUIRE(opened.has_value());
        listener_ = opened->sockets.front().release();
        const std::string table = "[[proxy]]\nname = \"p\"\nlisten = \"" +
                                  format(request.endpoint) + "\"\nupstream = \"" +
                                  format(upstream_) + "\"\nreply_aliases = [\"" + format(alias_) +
                                  "\"]\nport_cooldown = \"10s\"\n";
        control_.toml = table;
        control_.proxies = {
            {0, ControlRecord::State::serving, false, false, table, 1, 1, 0, {}, {}}};
        ControlRecord::Version version;
        version.version = 1;
        version.endpoint = upstream_;
        version.aliases = {{Prefix{alias_.address, 32}, 0, alias_.port, 1}};
        control_.versions = {version};
        control_.listeners = {
            {0, ControlRecord::State::serving, request.endpoint, 0, {}, {listener_}}};
        const ControlRecord::PortSpan ports{1024, 65535, false};
        control_.bindings = {{0, 0, true, source_, source_, 0, 0, ports}};
        control_.pools = {{0, source_, {ports}}};
    }
    Left(const Left&) = delete;
    ~Left() {
        for (const int descriptor : made_) ::close(descriptor);
        ::close(listener_);
    }

    /// Opens a group as an engine does; the record is whole.
    GroupRecord open_group() {
        const std::array aliases{alias_};
        return open_group(aliases, false);
    }
    /// Two groups' sockets on one port, and an open member behind them.
    GroupRecord open_crowded_group() {
        const std::array aliases{alias_, upstream_, alias_};
        return open_group(aliases, true);
    }
    GroupRecord open_group(std::span<const Endpoint> aliases, bool with_open_member) {
        GroupRecord record;
        record.upstream_version = 1;
        record.local = Endpoint{source_, 0, next_port()};
        record.members = 2;
        GroupOpening opening;
        opening.local = record.local;
        opening.upstream = upstream_;
        opening.aliases = aliases;
        opening.with_open_member = with_open_member;
        REQUIRE(open_group_sockets(opening, record.descriptors).opened());
        made_.insert(made_.end(), record.descriptors.begin(),
                     record.descriptors.begin() + static_cast<std::ptrdiff_t>(opening.members()));
        return record;
    }
    void write(const GroupRecord& record) { REQUIRE(ledger_.write(0, written_++, record)); }

    /// What the sockets and the ledger are for a process that has only a parcel of them. Their
    /// numbers are those of something else there.
    Descriptor park(const std::vector<int>& besides, std::span<const int> without = {}) {
        std::vector<int> sockets = Predecessor::sockets_in(read_ledger());
        sockets.insert(sockets.end(), besides.begin(), besides.end());
        for (const int each : without) std::erase(sockets, each);
        Result<Descriptor> parcel = pack(ledger_.descriptor(), sockets);
        REQUIRE(parcel.has_value());
        for (const int descriptor : sockets) ::dup2(2, descriptor);
        for (const int descriptor : without) ::dup2(2, descriptor);
        return std::move(*parcel);
    }
    Ledger read_ledger() {
        REQUIRE(ledger_.put(Ledger::encode(control_)));
        return *Ledger::open(ledger_.descriptor());
    }
    Predecessor claim(const Descriptor& parcel) {
        std::string why_not;
        std::optional<Predecessor> found = Predecessor::find(parcel.descriptor(), why_not);
        CAPTURE(why_not);
        REQUIRE(found.has_value());
        kept_.push_back(parcel.descriptor());
        found->claim(kept_);
        return std::move(*found);
    }

    Predecessor claim() {
        REQUIRE(ledger_.put(Ledger::encode(control_)));
        std::string why_not;
        std::optional<Predecessor> found = Predecessor::find(ledger_.descriptor(), why_not);
        CAPTURE(why_not);
        REQUIRE(found.has_value());
        found->claim(kept_);
        return std::move(*found);
    }

    ControlRecord control_;
    int listener_ = -1;
    Ledger& ledger() { return ledger_; }

private:
    Endpoint upstream_{loopback(Family::ipv4), 0, next_port()};
    Endpoint alias_{loopback(Family::ipv4), 0, next_port()};
    Address source_ = group_address(Family::ipv4);
    Ledger ledger_;
    std::vector<int> kept_;
    std::vector<int> made_;
    std::uint32_t written_ = 0;
};

}  // namespace

TEST_CASE("whole records are believed, and what nobody names is closed and its port rests") {
    Left left;
    const GroupRecord named = left.open_group();
    const GroupRecord unnamed = left.open_group();
    left.write(named);
    Predecessor found = left.claim();
    CHECK(found.not_believed() == 0);
    CHECK(found.take_listener(0) == std::vector{left.listener_});
    const std::vector<GroupRecord> groups = found.take_groups(0);
    REQUIRE(groups.size() == 1);
    CHECK(groups.front() == named);
    CHECK(is_open(named.descriptors[0]));
    CHECK_FALSE(is_open(unnamed.descriptors[0]));
    CHECK_FALSE(is_open(unnamed.descriptors[1]));

    const Instant now = monotonic_now();
    Ledger next = *Ledger::create({1, 64, 4});
    found.rest_ports(next, now);
    const PortPool pool = found.pool(found.control().pools.front(), 0, 0, {});
    CHECK(pool.leased() == 1);
    const Ledger read = *Ledger::open(next.descriptor());
    CHECK(read.rests_until(0, unnamed.local.port) >= now + 10s);
    CHECK(read.rests_until(0, named.local.port) == Instant::min());
}

TEST_CASE("a record whose sockets are others than it says is not believed") {
    Left left;
    GroupRecord record = left.open_group();
    const GroupRecord other = left.open_group();
    SUBCASE("another port") { ++record.local.port; }
    SUBCASE("the alias member where the primary should be") {
        std::swap(record.descriptors[0], record.descriptors[1]);
    }
    SUBCASE("a member of another group") { record.descriptors[1] = other.descriptors[1]; }
    SUBCASE("a closed descriptor") { ::close(record.descriptors[1]); }
    SUBCASE("a file") { record.descriptors[1] = 2; }
    SUBCASE("a version that there is not") { record.upstream_version = 2; }
    SUBCASE("a source binding that there is not") { record.binding = 1; }
    SUBCASE("fewer members than the version has") { record.members = 1; }
    left.write(record);
    Predecessor found = left.claim();
    CHECK(found.not_believed() == 1);
    CHECK(found.take_groups(0).empty());
    CHECK_FALSE(is_open(record.descriptors[0]));
    CHECK(is_open(2));
}

TEST_CASE("a descriptor belongs to the first record that names it") {
    Left left;
    const GroupRecord record = left.open_group();
    left.write(record);
    left.write(record);
    Predecessor found = left.claim();
    CHECK(found.not_believed() == 1);
    CHECK(found.take_groups(0).size() == 1);
}

TEST_CASE("of two records with one port the first is believed") {
    Left left;
    GroupRecord record = left.open_crowded_group();
    left.write(record);
    record.descriptors[0] = record.descriptors[2];
    record.descriptors[1] = record.descriptors[3];
    left.write(record);
    Predecessor found = left.claim();
    CHECK(found.not_believed() == 1);
    CHECK(found.take_groups(0).size() == 1);
}

TEST_CASE("a primary that is connected to an alias is not believed") {
    Left left;
    GroupRecord record = left.open_crowded_group();
    record.descriptors[0] = record.descriptors[3];
    left.write(record);
    CHECK(left.claim().not_believed() == 1);
}

TEST_CASE("a descriptor has one place in a record") {
    Left left;
    GroupRecord record = left.open_crowded_group();
    record.has_open_member = true;
    record.members = 3;
    const int open_member = record.descriptors[4];
    record.descriptors[1] = record.descriptors[2] = open_member;  // an alias may have no route
    left.write(record);
    Predecessor found = left.claim();
    CHECK(found.not_believed() == 1);
    CHECK(found.take_groups(0).empty());
    CHECK_FALSE(is_open(open_member));
}

TEST_CASE("a listener whose sockets are at another address is not believed") {
    Left left;
    ++left.control_.listeners.front().endpoint.port;
    Predecessor found = left.claim();
    CHECK(found.not_believed() == 1);
    CHECK(found.take_listener(0).empty());
    CHECK_FALSE(is_open(left.listener_));
}

TEST_CASE("what a parcel has is gone on from under other numbers, and the rest of it is closed") {
    Left left;
    const GroupRecord named = left.open_group();
    const GroupRecord unnamed = left.open_group();
    left.write(named);
    ControlRecord::Listener closing = left.control_.listeners.front();
    closing.number = 1;
    closing.state = ControlRecord::State::closing;
    closing.descriptors = {1 << 20};  // is no socket any more
    left.control_.listeners.push_back(closing);
    const Descriptor parcel = left.park({unnamed.descriptors[0], unnamed.descriptors[1]});
    Predecessor found = left.claim(parcel);
    CHECK(found.not_believed() == 0);
    CHECK(found.missing() == 0);
    const std::vector<int> listener = found.take_listener(0);
    REQUIRE(listener.size() == 1);
    CHECK(listener.front() != left.listener_);
    CHECK(bound_to(listener.front()) == left.control_.listeners.front().endpoint);
    const std::vector<GroupRecord> groups = found.take_groups(0);
    REQUIRE(groups.size() == 1);
    CHECK(groups.front().local == named.local);
    for (std::size_t i = 0; i < groups.front().members; ++i) {
        CHECK(groups.front().descriptors[i] != named.descriptors[i]);
        CHECK(bound_to(groups.front().descriptors[i]) == named.local);
        ::close(groups.front().descriptors[i]);
    }
    ::close(listener.front());
    Ledger next = *Ledger::create({1, 64, 4});
    const Instant now = monotonic_now();
    found.rest_ports(next, now);
    const Ledger read = *Ledger::open(next.descriptor());
    CHECK(read.rests_until(0, unnamed.local.port) >= now + 10s);
    // Another worker could go on from it as well, until it is discarded.
    CHECK(left.claim(parcel).take_groups(0).size() == 1);
    discard(parcel.descriptor());
    std::string why_not;
    CHECK_FALSE(Predecessor::find(parcel.descriptor(), why_not).has_value());
    CHECK(why_not == "what holds its sockets: it is empty");
}

TEST_CASE("an engine of the process before stays open until the next one serves") {
    Left left;
    left.write(left.open_group());
    const int engine = ::epoll_create1(0);
    const int file = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    Predecessor found = left.claim();
    CHECK(is_open(engine));
    CHECK_FALSE(is_open(file));
    found.close_engines();
    CHECK_FALSE(is_open(engine));
    CHECK(found.take_groups(0).size() == 1);
}

TEST_CASE("records of what is no socket any more keep nothing out of a parcel") {
    Left left;
    const GroupRecord whole = left.open_group();
    const GroupRecord closed = left.open_group();
    const GroupRecord replaced = left.open_group();
    for (const GroupRecord* each : {&whole, &closed, &replaced}) left.write(*each);
    ::close(closed.descriptors[0]);
    const int epoll = ::epoll_create1(0);
    REQUIRE(::dup2(epoll, replaced.descriptors[0]) >= 0);
    ::close(epoll);
    const std::vector<int> found = Predecessor::sockets_in(left.read_ledger());
    CHECK(found.size() == 1 + 2 + 1 + 1);  // the listener's, and of the groups
    CHECK(std::count(found.begin(), found.end(), closed.descriptors[0]) == 0);
    CHECK(std::count(found.begin(), found.end(), replaced.descriptors[0]) == 0);
}

TEST_CASE("of a group that is not whole in a parcel the port rests") {
    Left left;
    const GroupRecord record = left.open_group();
    left.write(record);
    const Descriptor parcel = left.park({}, std::span{record.descriptors}.first(2));
    Predecessor found = left.claim(parcel);
    CHECK(found.not_believed() == 1);
    CHECK(found.take_groups(0).empty());
    Ledger next = *Ledger::create({1, 64, 4});
    const Instant now = monotonic_now();
    found.rest_ports(next, now);
    CHECK(Ledger::open(next.descriptor())->rests_until(0, record.local.port) >= now + 10s);
    for (const int listener : found.take_listener(0)) ::close(listener);
}

TEST_CASE("numbers of the control record that stand for nothing refuse the ledger") {
    Left left;
    SUBCASE("a version") { left.control_.versions.clear(); }
    SUBCASE("a proxy twice") { left.control_.proxies.push_back(left.control_.proxies.front()); }
    SUBCASE("no proxy that serves") { left.control_.proxies.clear(); }
    SUBCASE("a pool's place") { left.control_.pools.front().number = 1; }
    SUBCASE("a binding's pool") { left.control_.bindings.front().pool = 1; }
    SUBCASE("a binding's range") { left.control_.bindings.front().range = 1; }
    SUBCASE("a binding's proxy") { left.control_.bindings.front().proxy = 1; }
    SUBCASE("a listener's proxy") { left.control_.listeners.front().proxy = 1; }
    REQUIRE(left.ledger().put(Ledger::encode(left.control_)));
    std::string why_not;
    CHECK_FALSE(Predecessor::find(left.ledger().descriptor(), why_not).has_value());
    CHECK_FALSE(why_not.empty());
}

TEST_CASE("no port rests longer than a port may, whatever the ledger says") {
    Left left;
    const Instant now = monotonic_now();
    left.ledger().rest(0, 20001, now + 100h);
    Predecessor found = left.claim();
    Ledger next = *Ledger::create({1, 64, 4});
    found.rest_ports(next, now);
    const Ledger read = *Ledger::open(next.descriptor());
    CHECK(read.rests_until(0, 20001) > now);
    CHECK(read.rests_until(0, 20001) <= now + 1h + 1s);
}

}  // namespace udpproxy::contract
