// When one more session of a client is counted, and when it is refused.
#include "udpproxy/session/client_counts.hpp"

#include "udpproxy/session/source_prefix.hpp"

namespace udpproxy {

ClientCounts::ClientCounts(std::uint32_t sessions_max, SipKey key)
    : key_(key), entries_(sessions_max), map_(sessions_max) {}

ClientCounts::Outcome ClientCounts::acquire(std::uint16_t proxy, const Address& client,
                                            std::uint32_t limit) {
    const Words words = words_of(proxy, client);
    const std::uint64_t hash = siphash13(key_, words);
    const std::lock_guard lock(mutex_);
    if (const std::optional<std::uint32_t> known = find(hash, words)) {
        Entry& entry = entries_[*known];
        if (limit != 0 && entry.sessions >= limit) return Outcome::limit_met;
        ++entry.sessions;
        return Outcome::counted;
    }
    const std::optional<std::uint32_t> index = entries_.acquire();
    if (!index) return Outcome::full;
    entries_[*index] = Entry{words, 1};
    map_.insert(hash, *index);
    return Outcome::counted;
}

bool ClientCounts::meets_limit(std::uint16_t proxy, const Address& client, std::uint32_t limit) {
    if (limit == 0) return false;
    const Words words = words_of(proxy, client);
    const std::uint64_t hash = siphash13(key_, words);
    const std::lock_guard lock(mutex_);
    const std::optional<std::uint32_t> known = find(hash, words);
    return known && entries_[*known].sessions >= limit;
}

void ClientCounts::release(std::uint16_t proxy, const Address& client) {
    const Words words = words_of(proxy, client);
    const std::uint64_t hash = siphash13(key_, words);
    const std::lock_guard lock(mutex_);
    const std::optional<std::uint32_t> known = find(hash, words);
    UDPPROXY_ASSERT(known.has_value());
    if (--entries_[*known].sessions > 0) return;
    map_.erase(hash, *known,
               [this](std::uint32_t index) { return siphash13(key_, entries_[index].client); });
    entries_.release(*known);
}

std::uint32_t ClientCounts::clients() {
    const std::lock_guard lock(mutex_);
    return entries_.size();
}

ClientCounts::Words ClientCounts::words_of(std::uint16_t proxy, const Address& client) noexcept {
    const std::array<std::uint64_t, 2> prefix = leading_bits(client, host_bits(client));
    return {prefix[0], prefix[1], proxy};
}

std::optional<std::uint32_t> ClientCounts::find(std::uint64_t hash, const Words& client) const {
    return map_.find(hash, [&](std::uint32_t index) { return entries_[index].client == client; });
}

}  // namespace udpproxy
