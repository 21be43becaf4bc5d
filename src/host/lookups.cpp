// Decides how often and how long a server is asked, how many names are under way, and when the
// files are read again. Failures of c-ares, a lack of memory among them, end a lookup with an
// error: nothing is remembered of them here.
#include "udpproxy/host/lookups.hpp"

#include <ares.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

namespace udpproxy {

namespace {

// A server has a second for its first answer, so that the second server of resolv.conf is heard
// within the three seconds that a start waits. c-ares doubles the time with each round through the
// servers: 1 + 2 + 4 s for each server before a name is given up.
constexpr int first_timeout_ms = 1000;
constexpr int rounds = 3;
// As many as a configuration has proxies, so no name waits for another one. The bound meets reloads
// that change names faster than a silent server's are given up.
constexpr std::size_t under_way_max = 256;
constexpr int begun_at_once_max = 32;
// c-ares opens at most one UDP and one TCP socket for each server.
constexpr std::size_t events_at_once = 16;
constexpr Duration look_up_within = std::chrono::seconds{30};
constexpr int look_up_pause_ms = 100;

}  // namespace

void Lookup::Freed::operator()(ares_addrinfo* found) const noexcept { ::ares_freeaddrinfo(found); }

Result<Addresses> Lookup::addresses() const {
    UDPPROXY_ASSERT(is_done_);
    if (status_ != ARES_SUCCESS) return Error{::ares_strerror(status_)};
    Addresses answer;
    int ttl_s = INT32_MAX;
    for (const ares_addrinfo_cname* alias = found_->cnames; alias != nullptr; alias = alias->next)
        ttl_s = std::min(ttl_s, alias->ttl);
    for (const ares_addrinfo_node* node = found_->nodes; node != nullptr; node = node->ai_next) {
        ttl_s = std::min(ttl_s, node->ai_ttl);
        SocketName name{};
        std::memcpy(&name, node->ai_addr, std::min<std::size_t>(node->ai_addrlen, sizeof name));
        Endpoint endpoint = read_socket_name(name);
        endpoint.port = name_.port;
        std::vector<Endpoint>& known = answer.endpoints;
        if (std::find(known.begin(), known.end(), endpoint) == known.end())
            known.push_back(endpoint);
    }
    if (answer.endpoints.empty()) return Error{::ares_strerror(ARES_ENODATA)};
    // A TTL with its highest bit set counts as zero (RFC 2181 section 8).
    if (!is_from_file_) answer.ttl = std::chrono::seconds{std::max(ttl_s, 0)};
    return answer;
}

void Lookups::Destroyed::operator()(ares_channeldata* channel) const noexcept {
    ::ares_destroy(channel);
}

// The channel goes while the lists are there: c-ares ends every lookup that is under way.
Lookups::~Lookups() { channel_.reset(); }

std::shared_ptr<const Lookup> Lookups::ask(HostName name) {
    waiting_.push_back(std::make_shared<Lookup>(std::move(name)));
    return waiting_.back();
}

bool Lookups::has_more() const noexcept {
    return !waiting_.empty() && under_way_.size() < under_way_max;
}

void Lookups::advance() noexcept {
    if (waiting_.empty() && under_way_.empty()) return;
    if (channel_) read();
    const auto is_dropped = [](const auto& lookup) { return lookup.use_count() == 1; };
    std::erase_if(waiting_, is_dropped);
    // A channel has read the files when it was made. Without memory or descriptors c-ares takes its
    // defaults for a file that it could not read, so no channel outlives its lookups.
    const bool is_outdated = !under_way_.empty() && stamp() != read_from_;
    if (is_outdated || (under_way_.empty() && !waiting_.empty())) {
        const int status = open_channel();
        if (!channel_) {
            for (const auto& lookup : waiting_) take(lookup.get(), status, 0, nullptr);
            waiting_.clear();
        }
    }
    begin();
}

Lookups::FileStamp Lookups::stamp() const noexcept {
    struct stat file {};
    if (::stat(settings_.resolv_conf.c_str(), &file) != 0) return {};
    return {file.st_dev, file.st_ino, file.st_size, file.st_ctim.tv_sec, file.st_ctim.tv_nsec};
}

/// What is under way in an older channel waits again. Returns the status of c-ares; after a failure
/// an older channel goes on.
int Lookups::open_channel() noexcept {
    if (!events_) events_ = Socket{::epoll_create1(EPOLL_CLOEXEC)};
    if (!events_) return ARES_EFILE;
    if (under_way_.empty()) channel_.reset();
    const FileStamp before = stamp();
    ares_options options{};
    options.timeout = first_timeout_ms;
    options.tries = rounds;
    options.udp_port = options.tcp_port = settings_.port;
    options.resolvconf_path = settings_.resolv_conf.data();
    options.sock_state_cb = watch;
    options.sock_state_cb_data = this;
    ares_channel channel = nullptr;
    const int status =
        ::ares_init_options(&channel, &options,
                            ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_UDP_PORT |
                                ARES_OPT_TCP_PORT | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS) return status;
    read_from_ = before;
    channel_.reset(channel);
    for (auto entry = under_way_.begin(); entry != under_way_.end();) {
        const auto lookup = entry++;
        if ((*lookup)->status_ != ARES_EDESTRUCTION) continue;
        (*lookup)->is_done_ = false;
        waiting_.splice(waiting_.begin(), under_way_, lookup);
    }
    return status;
}

void Lookups::take(void* lookup, int status, int /*timeouts*/, ares_addrinfo* found) {
    Lookup& taken = *static_cast<Lookup*>(lookup);
    taken.status_ = status;
    taken.found_.reset(found);
    taken.is_done_ = true;
}

/// If the kernel has no memory for the entry, what arrives on this socket is not seen, and its
/// lookups end with a time-out.
void Lookups::watch(void* lookups, int descriptor, int readable, int writable) {
    const int events = static_cast<Lookups*>(lookups)->events_.descriptor();
    epoll_event entry{};
    entry.events = (readable != 0 ? EPOLLIN : 0U) | (writable != 0 ? EPOLLOUT : 0U);
    entry.data.fd = descriptor;
    if (entry.events == 0)
        ::epoll_ctl(events, EPOLL_CTL_DEL, descriptor, nullptr);
    else if (::epoll_ctl(events, EPOLL_CTL_MOD, descriptor, &entry) != 0)
        ::epoll_ctl(events, EPOLL_CTL_ADD, descriptor, &entry);
}

void Lookups::read() noexcept {
    std::array<epoll_event, events_at_once> ready{};
    const int count =
        ::epoll_wait(events_.descriptor(), ready.data(), static_cast<int>(ready.size()), 0);
    for (int i = 0; i < count; ++i) {
        const epoll_event& event = ready[static_cast<std::size_t>(i)];
        // An error or a hang-up shows in whatever c-ares does with the socket.
        const bool is_readable = (event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0;
        const bool is_writable = (event.events & ~static_cast<std::uint32_t>(EPOLLIN)) != 0;
        ::ares_process_fd(channel_.get(), is_readable ? event.data.fd : ARES_SOCKET_BAD,
                          is_writable ? event.data.fd : ARES_SOCKET_BAD);
    }
    ::ares_process_fd(channel_.get(), ARES_SOCKET_BAD, ARES_SOCKET_BAD);  // the time-outs
    std::erase_if(under_way_, [](const auto& lookup) { return lookup->is_done_; });
}

void Lookups::begin() noexcept {
    for (int begun = 0; begun < begun_at_once_max && has_more(); ++begun) {
        under_way_.splice(under_way_.end(), waiting_, waiting_.begin());
        Lookup& lookup = *under_way_.back();
        const std::optional<Family> family = lookup.name_.family;
        ares_addrinfo_hints hints{};
        hints.ai_socktype = SOCK_DGRAM;
        hints.ai_family = !family ? AF_UNSPEC : *family == Family::ipv4 ? AF_INET : AF_INET6;
        ::ares_getaddrinfo(channel_.get(), lookup.name_.host.c_str(), nullptr, &hints, take,
                           &lookup);
        // What a server knows takes a round trip.
        lookup.is_from_file_ = lookup.is_done_;
        if (lookup.is_done_) under_way_.pop_back();
    }
}

std::vector<Result<Addresses>> look_up(const std::vector<HostName>& names) {
    Lookups lookups;
    std::vector<std::shared_ptr<const Lookup>> asked;
    for (const HostName& name : names) asked.push_back(lookups.ask(name));
    const Instant end = monotonic_now() + look_up_within;
    const auto is_done = [](const auto& lookup) { return lookup->is_done(); };
    lookups.advance();
    while (!std::all_of(asked.begin(), asked.end(), is_done) && monotonic_now() < end) {
        pollfd entry{lookups.descriptor(), POLLIN, 0};
        ::poll(&entry, 1, lookups.has_more() ? 0 : look_up_pause_ms);
        lookups.advance();
    }
    std::vector<Result<Addresses>> found;
    for (const auto& lookup : asked)
        found.push_back(lookup->is_done() ? lookup->addresses()
                                          : Error{::ares_strerror(ARES_ETIMEOUT)});
    return found;
}

}  // namespace udpproxy
