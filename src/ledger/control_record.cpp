// The control record as bytes and back. Each item of a list stands behind its length: a reader
// skips what a later version wrote behind the fields that it knows. What is read is hostile: no
// count is believed, and nothing is allocated that the bytes do not pay for.
#include <algorithm>
#include <cstring>
#include <string_view>

#include "ledger/layout.hpp"

namespace udpproxy {

namespace {

class Writer {
public:
    template <class Number>
    void number(Number value) {
        static_assert(std::has_unique_object_representations_v<Number>);
        const auto* first = reinterpret_cast<const std::byte*>(&value);
        bytes_.insert(bytes_.end(), first, first + sizeof value);
    }
    void flag(bool value) { number(static_cast<std::uint8_t>(value)); }
    void text(std::string_view text) {
        number(static_cast<std::uint32_t>(text.size()));
        const auto* first = reinterpret_cast<const std::byte*>(text.data());
        bytes_.insert(bytes_.end(), first, first + text.size());
    }
    void instant(Instant instant) { number(instant.time_since_epoch().count()); }
    void address(const Address& address) { number(address.bytes); }
    void endpoint(const Endpoint& endpoint) {
        address(endpoint.address);
        number(endpoint.scope);
        number(endpoint.port);
    }
    void prefix(const Prefix& prefix) {
        address(prefix.address);
        number(prefix.bits);
    }
    /// 0: any port.
    void port(const std::optional<std::uint16_t>& port) { number(port.value_or(std::uint16_t{0})); }
    template <class Item, class Write>
    void list(const std::vector<Item>& items, Write write) {
        number(static_cast<std::uint32_t>(items.size()));
        for (const Item& item : items) {
            const std::size_t begin = bytes_.size();
            number(std::uint32_t{0});
            write(item);
            const auto length =
                static_cast<std::uint32_t>(bytes_.size() - begin - sizeof(std::uint32_t));
            std::memcpy(bytes_.data() + begin, &length, sizeof length);
        }
    }

    [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

private:
    std::vector<std::byte> bytes_;
};

bool is_possible(const Prefix& prefix) {
    return prefix.bits <= (prefix.address.is_ipv4() ? 32 : 128);
}

/// After the first value that cannot be, everything it reads is zero.
class Reader {
public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    [[nodiscard]] bool is_good() const { return good_; }
    void require(bool law) { good_ = good_ && law; }

    template <class Number>
    Number number() {
        static_assert(std::has_unique_object_representations_v<Number>);
        Number value{};
        const std::span<const std::byte> taken = take(sizeof value);
        if (!taken.empty()) std::memcpy(&value, taken.data(), sizeof value);
        return value;
    }
    bool flag() {
        const auto value = number<std::uint8_t>();
        require(value <= 1);
        return value == 1;
    }
    ControlRecord::State state() {
        const auto value = number<std::uint8_t>();
        require(value <= static_cast<std::uint8_t>(ControlRecord::State::closing));
        return good_ ? static_cast<ControlRecord::State>(value) : ControlRecord::State{};
    }
    std::string text() {
        const std::span<const std::byte> taken = take(number<std::uint32_t>());
        return {reinterpret_cast<const char*>(taken.data()), taken.size()};
    }
    Instant instant() {
        const Instant instant{std::chrono::nanoseconds{number<std::int64_t>()}};
        require(is_possible(instant));
        return instant;
    }
    Address address() { return Address{number<std::array<std::uint8_t, 16>>()}; }
    Endpoint endpoint() {
        Endpoint endpoint{address(), number<std::uint32_t>(), number<std::uint16_t>()};
        require(is_possible(endpoint));
        return endpoint;
    }
    Prefix prefix() {
        Prefix prefix{address(), number<std::uint8_t>()};
        require(is_possible(prefix));
        return prefix;
    }
    std::optional<std::uint16_t> port() {
        const auto port = number<std::uint16_t>();
        return port == 0 ? std::nullopt : std::optional{port};
    }
    template <class Item, class Read>
    void list(std::vector<Item>& items, Read read) {
        for (auto left = number<std::uint32_t>(); left > 0 && good_; --left) {
            Reader item{take(number<std::uint32_t>())};
            items.push_back(read(item));
            require(item.good_);
        }
    }

private:
    std::span<const std::byte> take(std::size_t count) {
        require(count <= bytes_.size());
        if (!good_) return {};
        const std::span<const std::byte> taken = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return taken;
    }

    std::span<const std::byte> bytes_;
    bool good_ = true;
};

using Control = ControlRecord;

void write_span(Writer& to, const Control::PortSpan& span) {
    to.number(span.first);
    to.number(span.last);
    to.flag(span.spares_reserved);
}
Control::PortSpan read_span(Reader& from) {
    Control::PortSpan span;
    span.first = from.number<std::uint16_t>();
    span.last = from.number<std::uint16_t>();
    span.spares_reserved = from.flag();
    from.require(span.first <= span.last);
    return span;
}

void write_counter(Writer& to, const Control::Proxy::AliasCounter& counter) {
    to.prefix(counter.prefix);
    to.number(counter.scope);
    to.port(counter.port);
    to.number(counter.number);
}
Control::Proxy::AliasCounter read_counter(Reader& from) {
    Control::Proxy::AliasCounter counter;
    counter.prefix = from.prefix();
    counter.scope = from.number<std::uint32_t>();
    counter.port = from.port();
    counter.number = from.number<std::uint8_t>();
    return counter;
}

void write_proxy(Writer& to, const Control::Proxy& proxy) {
    to.number(proxy.number);
    to.number(static_cast<std::uint8_t>(proxy.state));
    to.flag(proxy.draining);
    to.flag(proxy.superseded);
    to.text(proxy.toml);
    to.number(proxy.versions);
    to.number(proxy.upstream_version);
    to.number(proxy.closes_below);
    to.instant(proxy.deadline);
    to.list(proxy.alias_counters, [&](const auto& counter) { write_counter(to, counter); });
}
Control::Proxy read_proxy(Reader& from) {
    Control::Proxy proxy;
    proxy.number = from.number<std::uint16_t>();
    proxy.state = from.state();
    proxy.draining = from.flag();
    proxy.superseded = from.flag();
    proxy.toml = from.text();
    proxy.versions = from.number<std::uint32_t>();
    proxy.upstream_version = from.number<std::uint32_t>();
    proxy.closes_below = from.number<std::uint32_t>();
    proxy.deadline = from.instant();
    from.list(proxy.alias_counters, read_counter);
    return proxy;
}

void write_alias(Writer& to, const Control::Version::Alias& alias) {
    to.prefix(alias.prefix);
    to.number(alias.scope);
    to.port(alias.port);
    to.number(alias.counter_index);
}
Control::Version::Alias read_alias(Reader& from) {
    Control::Version::Alias alias;
    alias.prefix = from.prefix();
    alias.scope = from.number<std::uint32_t>();
    alias.port = from.port();
    alias.counter_index = from.number<std::uint8_t>();
    return alias;
}

void write_version(Writer& to, const Control::Version& version) {
    to.number(version.proxy);
    to.number(version.version);
    to.endpoint(version.endpoint);
    to.flag(version.open);
    to.list(version.aliases, [&](const auto& alias) { write_alias(to, alias); });
}
Control::Version read_version(Reader& from) {
    Control::Version version;
    version.proxy = from.number<std::uint16_t>();
    version.version = from.number<std::uint32_t>();
    version.endpoint = from.endpoint();
    version.open = from.flag();
    from.list(version.aliases, read_alias);
    return version;
}

void write_listener(Writer& to, const Control::Listener& listener) {
    to.number(listener.number);
    to.number(static_cast<std::uint8_t>(listener.state));
    to.endpoint(listener.endpoint);
    to.number(listener.proxy);
    to.instant(listener.deadline);
    to.list(listener.descriptors, [&](int descriptor) { to.number(descriptor); });
}
Control::Listener read_listener(Reader& from) {
    Control::Listener listener;
    listener.number = from.number<std::uint16_t>();
    listener.state = from.state();
    listener.endpoint = from.endpoint();
    listener.proxy = from.number<std::uint16_t>();
    listener.deadline = from.instant();
    from.list(listener.descriptors, [](Reader& item) { return item.number<std::int32_t>(); });
    from.require(
        listener.endpoint.port != 0 &&
        std::all_of(listener.descriptors.begin(), listener.descriptors.end(), [](int descriptor) {
            return descriptor >= 0 && descriptor <= descriptor_recorded_max;
        }));
    return listener;
}

void write_binding(Writer& to, const Control::Binding& binding) {
    to.number(binding.number);
    to.number(binding.proxy);
    to.flag(binding.in_use);
    to.address(binding.source);
    to.address(binding.pool_address);
    to.number(binding.pool);
    to.number(binding.range);
    write_span(to, binding.ports);
}
Control::Binding read_binding(Reader& from) {
    Control::Binding binding;
    binding.number = from.number<std::uint32_t>();
    binding.proxy = from.number<std::uint16_t>();
    binding.in_use = from.flag();
    binding.source = from.address();
    binding.pool_address = from.address();
    binding.pool = from.number<std::uint32_t>();
    binding.range = from.number<std::uint32_t>();
    binding.ports = read_span(from);
    return binding;
}

void write_pool(Writer& to, const Control::Pool& pool) {
    to.number(pool.number);
    to.address(pool.address);
    to.list(pool.ranges, [&](const auto& range) { write_span(to, range); });
}
Control::Pool read_pool(Reader& from) {
    Control::Pool pool;
    pool.number = from.number<std::uint32_t>();
    pool.address = from.address();
    from.list(pool.ranges, read_span);
    return pool;
}

}  // namespace

std::vector<std::byte> Ledger::encode(const ControlRecord& record) {
    Writer to;
    to.text(record.program_version);
    to.text(record.toml);
    to.number(record.reloads);
    to.flag(record.drain_deadline.has_value());
    to.instant(record.drain_deadline.value_or(Instant{}));
    to.list(record.proxies, [&](const auto& proxy) { write_proxy(to, proxy); });
    to.list(record.versions, [&](const auto& version) { write_version(to, version); });
    to.list(record.listeners, [&](const auto& listener) { write_listener(to, listener); });
    to.list(record.bindings, [&](const auto& binding) { write_binding(to, binding); });
    to.list(record.pools, [&](const auto& pool) { write_pool(to, pool); });
    return to.take();
}

std::optional<ControlRecord> decoded(std::span<const std::byte> bytes) {
    Reader from{bytes};
    ControlRecord record;
    record.program_version = from.text();
    record.toml = from.text();
    record.reloads = from.number<std::uint64_t>();
    const bool drains = from.flag();
    const Instant drain_deadline = from.instant();
    if (drains) record.drain_deadline = drain_deadline;
    from.list(record.proxies, read_proxy);
    from.list(record.versions, read_version);
    from.list(record.listeners, read_listener);
    from.list(record.bindings, read_binding);
    from.list(record.pools, read_pool);
    if (!from.is_good()) return std::nullopt;
    return record;
}

}  // namespace udpproxy
