// What is believed of a ledger, and what becomes of everything else. A record is believed if its
// checksum holds, its numbers stand for something, and the kernel says of every descriptor what the
// record says: bound to that address, connected to that peer. No two records may name one
// descriptor or one port. Everything that no believed record names is closed before this process
// opens anything of its own, so that no number can mean two files; rings and epoll instances stay
// open under theirs until the shards serve.
#include "udpproxy/runtime/predecessor.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <future>

#include "udpproxy/host/procfs.hpp"
#include "udpproxy/net/found_socket.hpp"
#include "udpproxy/runtime/plan.hpp"

namespace udpproxy {

namespace {

/// The words of the ledger's table have no checksum. No port rests longer (`port_cooldown`).
constexpr Duration port_cooldown_max = std::chrono::hours{1};

/// For what this process opens besides, where the limit is lower than where a parcel was packed.
constexpr unsigned descriptors_spared = 512;

std::vector<PortRange> ranges_of(const ControlRecord::Pool& pool) {
    std::vector<PortRange> ranges;
    for (const ControlRecord::PortSpan& span : pool.ranges)
        ranges.push_back({span.first, span.last, span.spares_reserved});
    return ranges;
}

bool is_socket(int descriptor) {
    struct stat file {};
    return ::fstat(descriptor, &file) == 0 && S_ISSOCK(file.st_mode);
}

/// A ring, an epoll instance, an eventfd: none of them is a file of any type (anon_inodes.c).
bool is_anonymous(int descriptor) {
    struct stat file {};
    return ::fstat(descriptor, &file) == 0 && (file.st_mode & S_IFMT) == 0;
}

template <class Entry>
const Entry* find_number(const std::vector<Entry>& entries, std::uint32_t number) {
    const auto found = std::find_if(entries.begin(), entries.end(),
                                    [&](const Entry& each) { return each.number == number; });
    return found == entries.end() ? nullptr : &*found;
}

}  // namespace

std::optional<Predecessor> Predecessor::find(int ledger, std::string& why_not) {
    struct stat file {};
    if (ledger < 0 || ::fstat(ledger, &file) != 0) return std::nullopt;
    std::optional<Unpacked> parcel;
    if (may_be_parcel(ledger)) {
        Result<Unpacked> unpacked = unpack(ledger, descriptors_spared);
        if (!unpacked) {
            why_not = "what holds its sockets: " + unpacked.error().message;
            return std::nullopt;
        }
        parcel = std::move(*unpacked);
        ledger = parcel->file.descriptor();
    } else if (S_ISREG(file.st_mode) && file.st_size == 0) {
        return std::nullopt;
    }
    Result<Ledger> opened = Ledger::open(ledger);
    if (!opened) {
        why_not = opened.error().message;
        return std::nullopt;
    }
    if (parcel) parcel->file = Descriptor{};  // it is mapped
    Predecessor predecessor{std::move(*opened)};
    predecessor.parcel_ = std::move(parcel);
    why_not = predecessor.read_control();
    if (!why_not.empty()) return std::nullopt;
    return predecessor;
}

std::vector<int> Predecessor::sockets_in(const Ledger& ledger) {
    std::vector<int> descriptors;
    const std::optional<ControlRecord> control = ledger.control();
    if (!control) return descriptors;
    for (const ControlRecord::Listener& listener : control->listeners)
        if (listener.state != ControlRecord::State::closing)
            descriptors.insert(descriptors.end(), listener.descriptors.begin(),
                               listener.descriptors.end());
    GroupRecord record;
    for (std::uint32_t shard = 0; shard < ledger.size().shards; ++shard)
        for (std::uint32_t group = 0; group < ledger.high_water(shard); ++group)
            if (ledger.read(shard, group, record) == Ledger::Found::whole)
                descriptors.insert(descriptors.end(), record.descriptors.begin(),
                                   record.descriptors.begin() + record.members);
    std::sort(descriptors.begin(), descriptors.end());
    std::erase_if(descriptors, [](int each) { return !is_socket(each); });
    return descriptors;
}

/// Records that were packed have the numbers of another table of descriptors.
void Predecessor::renumber(std::span<int> descriptors) const {
    if (!parcel_) return;
    for (int& descriptor : descriptors) descriptor = parcel_->number_of(descriptor);
}

/// Empty, or why the control record cannot be gone on from.
std::string Predecessor::read_control() {
    std::optional<ControlRecord> control = ledger_.control();
    if (!control) return "it has no whole record of the configuration";
    control_ = std::move(*control);
    for (ControlRecord::Listener& listener : control_.listeners) renumber(listener.descriptors);
    // A drain was asked of the program that ended; this one has been started to serve.
    if (parcel_) control_.drain_deadline.reset();
    for (ControlRecord::Proxy& proxy : control_.proxies)
        proxy.draining = proxy.draining && !parcel_;
    auto outcome = parse_config(control_.toml, "ledger");
    if (const auto* complaints = std::get_if<ConfigComplaints>(&outcome))
        return complaints->lines.empty() ? "its configuration is refused"
                                         : complaints->lines.front();
    config_ = std::move(std::get<Config>(outcome));
    for (const ControlRecord::Proxy& proxy : control_.proxies) {
        auto one = parse_config(proxy.toml, "ledger");
        auto* const config = std::get_if<Config>(&one);
        if (config == nullptr || config->proxies.size() != 1)
            return "the configuration of one of its proxies is refused";
        proxies_.push_back(std::move(config->proxies.front()));
    }
    for (const ControlRecord::Version& from : control_.versions) {
        std::vector<AliasRule> aliases;
        std::vector<std::uint8_t> counters;
        for (const ControlRecord::Version::Alias& alias : from.aliases) {
            aliases.push_back({alias.prefix, alias.scope, alias.port});
            counters.push_back(alias.counter_index);
        }
        versions_.push_back(
            {from.proxy, std::make_shared<const Upstream>(
                             from.endpoint, std::move(aliases),
                             from.open ? AliasMembers::open : AliasMembers::connected, from.version,
                             std::move(counters))});
    }
    return has_sound_numbers() ? std::string{} : "its numbers stand for nothing";
}

/// Whether every number stands for one thing that there is.
bool Predecessor::has_sound_numbers() const {
    const auto is_proxy = [&](std::uint16_t number) {
        return find_number(control_.proxies, number) != nullptr;
    };
    std::size_t serving = 0;
    for (std::size_t i = 0; i < control_.proxies.size(); ++i) {
        const ControlRecord::Proxy& proxy = control_.proxies[i];
        const bool is_serving = proxy.state == ControlRecord::State::serving;
        serving += is_serving ? 1 : 0;
        if (proxy.number >= config_proxies_max || !version(proxy.number, proxy.upstream_version) ||
            find_number(control_.proxies, proxy.number) != &proxy ||
            (is_serving && find_proxy(config_, proxies_[i].name) == nullptr))
            return false;
    }
    if (serving != config_.proxies.size()) return false;
    for (std::size_t i = 0; i < control_.pools.size(); ++i)
        if (control_.pools[i].number != i || i >= ledger_.size().pools) return false;
    const ControlRecord::Binding* last = nullptr;
    for (const ControlRecord::Binding& binding : control_.bindings) {
        if ((last != nullptr && last->number >= binding.number) || !is_proxy(binding.proxy) ||
            binding.number >= ledger_.size().pools || binding.pool >= control_.pools.size() ||
            binding.range >= control_.pools[binding.pool].ranges.size())
            return false;
        last = &binding;
    }
    return std::all_of(control_.listeners.begin(), control_.listeners.end(),
                       [&](const ControlRecord::Listener& listener) {
                           return is_proxy(listener.proxy) &&
                                  listener.number < ledger_.size().pools &&
                                  find_number(control_.listeners, listener.number) == &listener;
                       });
}

std::shared_ptr<const Upstream> Predecessor::version(std::uint16_t proxy,
                                                     std::uint32_t version) const {
    const UpstreamVersion* const found = find_version(proxy, version);
    return found != nullptr ? found->upstream : nullptr;
}

const UpstreamVersion* Predecessor::find_version(std::uint16_t proxy, std::uint32_t version) const {
    for (const UpstreamVersion& each : versions_)
        if (each.proxy == proxy && each.upstream->version() == version) return &each;
    return nullptr;
}

void Predecessor::claim(const std::vector<int>& kept) {
    groups_.resize(shards());
    claim_listeners();
    // Two system calls for each socket, and the clients wait: a thread for each shard.
    std::vector<std::future<Confirmed>> confirmed;
    for (std::uint32_t shard = 0; shard < shards(); ++shard)
        confirmed.push_back(std::async([this, shard] { return confirm_groups(shard); }));
    for (std::uint32_t shard = 0; shard < shards(); ++shard)
        claim_groups(shard, confirmed[shard].get());
    close_unclaimed(kept);
}

/// All of them, or none: a descriptor has one owner, and one place with it.
bool Predecessor::claims(std::span<const int> descriptors) {
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
        const auto index = static_cast<std::size_t>(descriptors[i]);
        if (claimed_.size() <= index) claimed_.resize(2 * index + 64);
        if (claimed_[index]) {
            for (const int taken : descriptors.first(i))
                claimed_[static_cast<std::size_t>(taken)] = false;
            return false;
        }
        claimed_[index] = true;
    }
    return true;
}

void Predecessor::claim_listeners() {
    for (const ControlRecord::Listener& listener : control_.listeners) {
        if (listener.state == ControlRecord::State::closing) continue;
        const auto is_there = [&](int descriptor) {
            return bound_to(descriptor) == listener.endpoint;
        };
        const std::vector<int>& sockets = listener.descriptors;
        if (sockets.size() == shards() && std::all_of(sockets.begin(), sockets.end(), is_there) &&
            claims(sockets))
            listeners_[listener.number] = sockets;
        else
            ++not_believed_;
    }
}

/// Whether every member is what the record says; with the number of the group's port pool.
bool Predecessor::is_whole(const GroupRecord& record, std::uint32_t& pool) const {
    // A shared pointer would be counted by all threads at once.
    const UpstreamVersion* const found = find_version(record.proxy, record.upstream_version);
    const ControlRecord::Binding* const binding = find_number(control_.bindings, record.binding);
    if (found == nullptr || binding == nullptr || binding->proxy != record.proxy) return false;
    pool = binding->pool;
    const Upstream& upstream = *found->upstream;
    const std::vector<Endpoint>& aliases = upstream.connected_aliases();
    if (record.members != 1 + aliases.size() + (record.has_open_member ? 1 : 0)) return false;
    if (!is_between(record.descriptors[0], record.local, upstream.endpoint())) return false;
    for (std::size_t i = 1; i < record.members; ++i) {
        const int descriptor = record.descriptors[i];
        const bool is_alias_member = i <= aliases.size();
        // An alias member without a route stays unconnected.
        if (!(is_alias_member && is_between(descriptor, record.local, aliases[i - 1])) &&
            !is_between(descriptor, record.local, std::nullopt))
            return false;
    }
    return true;
}

Predecessor::Confirmed Predecessor::confirm_groups(std::uint32_t shard) const {
    Confirmed confirmed;
    confirmed.groups.reserve(ledger_.high_water(shard));
    for (std::uint32_t group = 0; group < ledger_.high_water(shard); ++group) {
        GroupRecord record;
        std::uint32_t pool = 0;
        const Ledger::Found found = ledger_.read(shard, group, record);
        if (found == Ledger::Found::free) continue;
        if (found == Ledger::Found::whole) {
            renumber(std::span{record.descriptors}.first(record.members));
            if (is_whole(record, pool)) {
                confirmed.groups.emplace_back(pool, record);
                continue;
            }
            // Where there were no descriptors for sockets, late replies come all the same.
            confirmed.unconfirmed.push_back(record.local);
        }
        ++confirmed.not_believed;
    }
    return confirmed;
}

void Predecessor::claim_groups(std::uint32_t shard, const Confirmed& confirmed) {
    not_believed_ += confirmed.not_believed;
    unclaimed_.insert(unclaimed_.end(), confirmed.unconfirmed.begin(), confirmed.unconfirmed.end());
    groups_[shard].reserve(confirmed.groups.size());
    for (const auto& [pool, record] : confirmed.groups) {
        std::vector<bool>& leased = leased_ports_[pool];
        leased.resize(std::size_t{1} << 16);
        if (leased[record.local.port] ||
            !claims(std::span{record.descriptors}.first(record.members))) {
            ++not_believed_;
            continue;
        }
        leased[record.local.port] = true;
        groups_[shard].push_back(record);
    }
}

void Predecessor::close_unclaimed(std::vector<int> kept) {
    std::sort(kept.begin(), kept.end());
    const int end = descriptors_end();
    for (int descriptor = 3; descriptor < end; ++descriptor) {
        const auto index = static_cast<std::size_t>(descriptor);
        if ((index < claimed_.size() && claimed_[index]) ||
            std::binary_search(kept.begin(), kept.end(), descriptor))
            continue;
        if (is_anonymous(descriptor)) {
            engines_.push_back(descriptor);
            continue;
        }
        if (const std::optional<Endpoint> local = bound_to(descriptor))
            unclaimed_.push_back(*local);
        ::close(descriptor);
    }
}

void Predecessor::close_engines() {
    for (const int descriptor : std::exchange(engines_, {})) ::close(descriptor);
}

std::vector<int> Predecessor::take_listener(std::uint16_t number) {
    const auto found = listeners_.find(number);
    return found == listeners_.end() ? std::vector<int>{} : std::exchange(found->second, {});
}

std::vector<GroupRecord> Predecessor::take_groups(std::uint32_t shard) {
    return std::exchange(groups_[shard], {});
}

void Predecessor::rest_ports(Ledger& ledger, Instant now) {
    Duration cooldown{};
    for (const ProxyConfig& proxy : proxies_) cooldown = std::max(cooldown, proxy.port_cooldown);
    for (const ControlRecord::Pool& pool : control_.pools) {
        std::map<std::uint16_t, Instant>& rests = rests_[pool.number];
        for (std::uint32_t port = 1; port <= 0xffff && ledger_.has_rests(pool.number); ++port) {
            const auto number = static_cast<std::uint16_t>(port);
            const Instant until = ledger_.rests_until(pool.number, number);
            if (until > now) rests[number] = std::min(until, now + port_cooldown_max);
        }
        for (const Endpoint& local : unclaimed_)
            if (pool.address == local.address || pool.address.is_unspecified())
                rests[local.port] = std::max(rests[local.port], now + cooldown);
        for (const auto& [port, until] : rests) ledger.rest(pool.number, port, until);
    }
}

PortPool Predecessor::pool(const ControlRecord::Pool& of, std::uint32_t shard, std::uint64_t start,
                           const std::vector<PortRange>& reserved) const {
    PortPool pool(ranges_of(of), shard, shards(), start, reserved);
    const auto leased = leased_ports_.find(of.number);
    const auto rests = rests_.find(of.number);
    pool.restore(
        [&](std::uint16_t port) { return leased != leased_ports_.end() && leased->second[port]; },
        [&](std::uint16_t port) {
            if (rests == rests_.end()) return Instant::min();
            const auto until = rests->second.find(port);
            return until == rests->second.end() ? Instant::min() : until->second;
        });
    return pool;
}

}  // namespace udpproxy
