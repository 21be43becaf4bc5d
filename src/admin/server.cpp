// The admin thread: accepts connections, lets libmicrohttpd speak HTTP, and bounds both. The
// library runs in this file's poll loop with connections accepted here. So this file knows the age
// of each connection, and decides which one to close.
#include "udpproxy/admin/server.hpp"

#include <fmt/format.h>
#include <microhttpd.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <future>
#include <new>
#include <thread>

#include "responses.hpp"
#include "routes.hpp"
#include "sockets.hpp"
#include "udpproxy/host/access.hpp"

namespace udpproxy {

namespace {

constexpr unsigned silence_max_s = 10;  // for a connection without traffic
constexpr Duration request_max = std::chrono::seconds{
    15};  // from a connection's opening or latest request to its next complete one
constexpr std::size_t head_bytes_max = 16 << 10;  // request line, headers, library state
constexpr std::size_t body_bytes_max = 4 << 10;   // verbs take arguments, not bodies
constexpr int accepts_per_round = 64;
constexpr Duration stop_limit = std::chrono::seconds{1};
constexpr Duration file_look_every = std::chrono::seconds{1};
constexpr Duration start_lock_patience = std::chrono::seconds{2};
constexpr Duration no_descriptor_pause = std::chrono::milliseconds{100};

struct Connection {
    Instant since;  // its opening or latest request
    bool is_unix = false;
    Address address;  // over TCP
    std::size_t body_bytes = 0;
};

/// A page of another site must not reach a loopback address under its own name (DNS rebinding).
/// Browsers send the name that they looked up, so the name is checked.
bool names_an_address(std::string_view host) {
    if (host.starts_with('[')) return host.find(']') != std::string_view::npos;
    host = host.substr(0, host.find(':'));
    return host == "localhost" || parse_address(host).has_value();
}

}  // namespace

struct AdminServer::State {
    explicit State(Log& to) : log(to) {}
    ~State();

    void run();
    void accept_from(int listener, bool is_unix);
    void add(int descriptor, bool is_unix, const SocketName& name, socklen_t length);
    void make_room(const Address* address);
    void end_overdue();
    void restore_unix_socket();
    [[nodiscard]] int patience_ms() const;
    [[nodiscard]] AdminResponse answer(MHD_Connection* http, int descriptor,
                                       const Connection& connection, const char* method,
                                       const char* path) const;

    static MHD_Result on_request(void* state, MHD_Connection* http, const char* path,
                                 const char* method, const char* version, const char* upload,
                                 std::size_t* upload_bytes, void** seen);
    static void on_connection(void* state, MHD_Connection* http, void** context,
                              MHD_ConnectionNotificationCode what);

    Log& log;
    std::optional<AdminLinks> links;
    std::atomic<bool> stopping{false};
    std::string socket_path;
    AdminSocket unix_socket;
    Instant looked_at{};
    bool told_that_socket_is_lost = false;
    std::optional<gid_t> group;
    Socket tcp_listener;
    bool tcp_is_loopback = true;
    Socket stop_signal;
    MHD_Daemon* http = nullptr;
    Responses responses;
    int http_events = -1;  // the library's epoll set
    std::map<int, Connection> connections;
    Instant accepts_again_at{};
    std::thread thread;
    std::promise<void> ended;
};

AdminServer::State::~State() {
    if (http != nullptr) MHD_stop_daemon(http);
}

void AdminServer::State::run() {
    ::pthread_setname_np(::pthread_self(), "admin");
    for (;;) {
        const bool accepts = monotonic_now() >= accepts_again_at;
        const auto listening = static_cast<short>(accepts ? POLLIN : 0);
        std::array<pollfd, 4> wait{{{stop_signal.descriptor(), POLLIN, 0},
                                    {http_events, POLLIN, 0},
                                    {unix_socket.descriptor(), listening, 0},
                                    {tcp_listener.descriptor(), listening, 0}}};
        (void)::poll(wait.data(), wait.size(), accepts ? patience_ms() : 100);
        if (wait[0].revents != 0) return;
        if (wait[2].revents != 0) accept_from(unix_socket.descriptor(), true);
        if (wait[3].revents != 0) accept_from(tcp_listener.descriptor(), false);
        MHD_run(http);
        end_overdue();
        restore_unix_socket();
    }
}

/// Opens the Unix socket anew when its file has been removed (a cleaner of old files, a restart of
/// another instance in the same directory), for without it no operator reaches the program.
void AdminServer::State::restore_unix_socket() {
    const Instant now = monotonic_now();
    if (now - looked_at < file_look_every) return;
    looked_at = now;
    if (!unix_socket.has_lost_its_file()) return;
    try {
        Result<AdminSocket> opened = AdminSocket::open(socket_path, group, Duration::zero());
        if (opened) {
            unix_socket = std::move(*opened);
            log.warn("admin_restored",
                     {{"socket", socket_path}, {"reason", "its file was removed"}});
        } else if (!told_that_socket_is_lost) {
            log.warn("admin_off", {{"reason", opened.error().message},
                                   {"effect",
                                    "udpproxyctl cannot reach this program until it "
                                    "can be opened; it is tried every second"}});
        }
        told_that_socket_is_lost = !opened;
    } catch (const std::bad_alloc&) {
        return;  // the next look tries again
    }
}

int AdminServer::State::patience_ms() const {
    MHD_UNSIGNED_LONG_LONG library_ms = 0;
    constexpr MHD_UNSIGNED_LONG_LONG ours_ms = 1000;
    if (MHD_get_timeout(http, &library_ms) != MHD_YES) return static_cast<int>(ours_ms);
    return static_cast<int>(std::min(library_ms, ours_ms));
}

void AdminServer::State::accept_from(int listener, bool is_unix) {
    for (int i = 0; i < accepts_per_round; ++i) {
        SocketName name{};
        socklen_t length = sizeof name;
        const int descriptor =
            ::accept4(listener, &name.any, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (descriptor >= 0) {
            try {
                add(descriptor, is_unix, name, std::min<socklen_t>(length, sizeof name));
            } catch (const std::bad_alloc&) {
                ::close(descriptor);
            }
            continue;
        }
        if (errno == EMFILE || errno == ENFILE)
            accepts_again_at = monotonic_now() + no_descriptor_pause;
        if (errno != EINTR && errno != ECONNABORTED) return;
    }
}

void AdminServer::State::add(int descriptor, bool is_unix, const SocketName& name,
                             socklen_t length) {
    Connection connection{monotonic_now(), is_unix,
                          is_unix ? Address{} : read_socket_name(name).address, 0};
    make_room(is_unix ? nullptr : &connection.address);
    connections[descriptor] = connection;
    // The library closes the descriptor, also when it refuses the connection.
    if (MHD_add_connection(http, descriptor, &name.any, length) != MHD_YES)
        connections.erase(descriptor);
}

/// Closes connections until there is room for one more: of this address if it has reached its own
/// limit, else the one that is silent for longest.
void AdminServer::State::make_room(const Address* address) {
    const auto end_oldest = [&](auto&& is_meant) {
        auto oldest = connections.end();
        for (auto it = connections.begin(); it != connections.end(); ++it) {
            if (is_meant(it->second) &&
                (oldest == connections.end() || it->second.since < oldest->second.since))
                oldest = it;
        }
        if (oldest == connections.end()) return;
        // The library notices the end, closes the connection and calls on_connection.
        const int descriptor = oldest->first;
        ::shutdown(descriptor, SHUT_RDWR);
        MHD_run(http);
    };
    if (address != nullptr) {
        const auto is_of_address = [&](const Connection& connection) {
            return !connection.is_unix && connection.address == *address;
        };
        const auto count =
            std::count_if(connections.begin(), connections.end(),
                          [&](const auto& entry) { return is_of_address(entry.second); });
        if (static_cast<std::size_t>(count) >= admin_connections_per_address_max)
            end_oldest(is_of_address);
    }
    if (connections.size() >= admin_connections_max)
        end_oldest([](const Connection&) { return true; });
}

/// Closes connections that send a byte now and then: never silent, but without a complete request.
void AdminServer::State::end_overdue() {
    const Instant now = monotonic_now();
    for (const auto& [descriptor, connection] : connections) {
        if (now - connection.since > request_max) ::shutdown(descriptor, SHUT_RDWR);
    }
}

void AdminServer::State::on_connection(void* context, MHD_Connection* http, void**,
                                       MHD_ConnectionNotificationCode what) {
    if (what != MHD_CONNECTION_NOTIFY_CLOSED) return;
    auto& state = *static_cast<State*>(context);
    state.connections.erase(
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
}

/// Errors: bad_alloc.
AdminResponse AdminServer::State::answer(MHD_Connection* connection_of_library, int descriptor,
                                         const Connection& connection, const char* method,
                                         const char* path) const {
    AdminRequest request;
    request.method =
        std::strcmp(method, "HEAD") == 0 ? "GET" : method;  // the library omits the body
    request.path = path;
    const char* host =
        MHD_lookup_connection_value(connection_of_library, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    if (!connection.is_unix && tcp_is_loopback && host != nullptr && !names_an_address(host))
        return error_response(
            421,
            fmt::format("\"{}\" is not this program's address; use the one of admin.listen", host));
    struct Arguments {
        AdminRequest& request;
        bool are_whole = true;
    } arguments{request};
    MHD_get_connection_values(
        connection_of_library, MHD_GET_ARGUMENT_KIND,
        [](void* to, MHD_ValueKind, const char* key, const char* value) {
            auto& read = *static_cast<Arguments*>(to);
            try {
                read.request.arguments[key] = value != nullptr ? value : "";
            } catch (const std::bad_alloc&) {
                read.are_whole = false;  // no exception may pass through the library
            }
            return read.are_whole ? MHD_YES : MHD_NO;
        },
        &arguments);
    if (!arguments.are_whole) throw std::bad_alloc{};
    if (connection.is_unix) {
        request.peer = peer_of(descriptor);
        request.may_change = request.peer && udpproxy::may_change(descriptor, *request.peer, group);
    }
    const std::shared_ptr<const Status> status = links->board.get();
    if (!status) throw std::bad_alloc{};  // there was no memory for the first status
    try {
        const std::shared_ptr<const Problems> problems = links->problems.get();
        return answer_request({*status, problems ? *problems : Problems{}, links->log,
                               links->control, stopping, links->process},
                              request);
    } catch (const std::bad_alloc&) {
        throw;
    } catch (const std::exception& failure) {
        return error_response(500, failure.what());
    }
}

MHD_Result AdminServer::State::on_request(void* context, MHD_Connection* http, const char* path,
                                          const char* method, const char*, const char*,
                                          std::size_t* upload_bytes, void** seen) {
    auto& state = *static_cast<State*>(context);
    const int descriptor =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    const auto found = state.connections.find(descriptor);
    if (found == state.connections.end()) return MHD_NO;
    Connection& connection = found->second;
    if (*seen == nullptr) {  // the headers are complete
        *seen = &connection;
        connection.body_bytes = 0;
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        connection.body_bytes += *upload_bytes;
        *upload_bytes = 0;
        return connection.body_bytes <= body_bytes_max ? MHD_YES : MHD_NO;
    }
    connection.since = monotonic_now();
    try {
        return state.responses.queue(http,
                                     state.answer(http, descriptor, connection, method, path));
    } catch (const std::bad_alloc&) {
        return state.responses.queue_out_of_memory(http);
    }
}

AdminServer::AdminServer() = default;
AdminServer::~AdminServer() { (void)stop(stop_limit); }

bool AdminServer::stop(Duration limit) {
    if (!state_) return true;
    State& state = *state_;
    if (state.thread.joinable()) {
        state.stopping = true;
        const std::uint64_t one = 1;
        (void)!::write(state.stop_signal.descriptor(), &one, sizeof one);
        if (state.ended.get_future().wait_for(limit) != std::future_status::ready) {
            state.thread.detach();
            (void)state_.release();  // owned by the thread from now on
            return false;
        }
        state.thread.join();
    }
    state_.reset();
    return true;
}

Result<std::unique_ptr<AdminServer>> AdminServer::open(const AdminConfig& config, Log& log) {
    std::unique_ptr<AdminServer> server{new AdminServer};
    server->state_ = std::make_unique<State>(log);
    State& state = *server->state_;
    if (!config.group.empty()) {
        state.group = find_group(config.group);
        if (!state.group)
            return Error{fmt::format("admin.group \"{}\": {}", config.group, no_such_group)};
    }
    if (!config.socket.empty()) {
        Result<AdminSocket> opened =
            AdminSocket::open(config.socket, state.group, start_lock_patience);
        if (!opened && config.socket_given) return opened.error();
        if (opened) {
            state.unix_socket = std::move(*opened);
            state.socket_path = config.socket;
            log.info("admin_listening", {{"socket", config.socket}});
        } else {
            log.warn("admin_off", {{"reason", opened.error().message},
                                   {"effect",
                                    "udpproxyctl cannot reach this program; make the directory, or "
                                    "set admin.socket"}});
        }
    }
    if (config.listen) {
        Result<Socket> opened = open_admin_listener(*config.listen);
        if (!opened) return opened.error();
        state.tcp_listener = std::move(*opened);
        state.tcp_is_loopback = config.listen->address.is_loopback();
        log.info("admin_listening", {{"listen", format(*config.listen)}});
    }
    return server;
}

Result<void> AdminServer::start(const AdminLinks& links) {
    State& state = *state_;
    if (!state.unix_socket && !state.tcp_listener) return {};
    state.links.emplace(links);
    state.stop_signal = Socket{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!state.stop_signal) return system_error("admin: eventfd", errno);
    if (!state.responses.prepare()) return Error{"admin: out of memory"};
    state.http = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, nullptr, nullptr, &State::on_request, &state,
        MHD_OPTION_NOTIFY_CONNECTION, &State::on_connection, &state, MHD_OPTION_CONNECTION_LIMIT,
        static_cast<unsigned>(admin_connections_max + 8), MHD_OPTION_CONNECTION_TIMEOUT,
        silence_max_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, head_bytes_max, MHD_OPTION_END);
    if (state.http == nullptr) return Error{"admin: libmicrohttpd could not start"};
    const MHD_DaemonInfo* info = MHD_get_daemon_info(state.http, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == nullptr || info->epoll_fd < 0)
        return Error{"admin: libmicrohttpd has no epoll here"};
    state.http_events = info->epoll_fd;
    state.thread = std::thread([&state] {
        state.run();
        state.ended.set_value();
    });
    return {};
}

}  // namespace udpproxy
