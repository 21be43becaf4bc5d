// HTTP/1.1 over the Unix socket, no more of it than udpproxy's own server speaks: one request per
// connection, and the server closes.
#include "client.hpp"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "udpproxy/net/socket.hpp"

namespace udpproxy::ctl {

namespace {

constexpr std::size_t answer_bytes_max = 256U << 20;

std::string encoded(const std::string& text) {
    std::string made;
    for (const char letter : text) {
        const bool plain = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                           (letter >= '0' && letter <= '9') || letter == '.' || letter == '-' ||
                           letter == '_';
        if (plain)
            made += letter;
        else
            made += fmt::format("%{:02X}", static_cast<unsigned char>(letter));
    }
    return made;
}

std::string why_unreachable(int error) {
    switch (error) {
        case ENOENT:
            return "there is no such socket; udpproxy is not running, or its admin.socket has "
                   "another path (--socket)";
        case ECONNREFUSED:
            return "nobody listens on it; udpproxy is not running";
        case EACCES:
        case EPERM:
            return "permission denied; use it as root, as udpproxy's user, or as a member of its "
                   "admin.group";
        default:
            return "connect: " + error_text(error);
    }
}

Result<Socket> connect_to(const std::string& path, std::chrono::seconds patience) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (path.size() >= sizeof name.sun_path)
        return Error{fmt::format("{}: a socket's path has at most {} bytes", path,
                                 sizeof name.sun_path - 1)};
    std::memcpy(name.sun_path, path.data(), path.size());
    Socket socket{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (!socket) return system_error("socket", errno);
    const timeval limit{patience.count(), 0};
    (void)::setsockopt(socket.descriptor(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)::setsockopt(socket.descriptor(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (::connect(socket.descriptor(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0)
        return Error{fmt::format("{}: {}", path, why_unreachable(errno))};
    return socket;
}

Result<std::string> converse(const Socket& socket, const std::string& request,
                             std::chrono::seconds patience) {
    for (std::size_t sent = 0; sent < request.size();) {
        const ssize_t count =
            ::send(socket.descriptor(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
        if (count < 0) return system_error("udpproxy does not accept the request: send", errno);
        sent += static_cast<std::size_t>(count);
    }
    std::string answer;
    std::array<char, 65536> piece{};
    for (;;) {
        const ssize_t count = ::recv(socket.descriptor(), piece.data(), piece.size(), 0);
        if (count == 0) return answer;
        if (count < 0 && errno == EINTR) continue;
        if (count < 0)
            return Error{errno == EAGAIN
                             ? fmt::format("udpproxy did not answer within {} s", patience.count())
                             : "recv: " + error_text(errno)};
        answer.append(piece.data(), static_cast<std::size_t>(count));
        if (answer.size() > answer_bytes_max) return Error{"udpproxy's answer does not end"};
    }
}

}  // namespace

Result<std::string> Client::text(const std::string& method, const std::string& path,
                                 const Arguments& arguments) const {
    std::string target = path;
    char before = '?';
    for (const auto& [name, value] : arguments) {
        if (value.empty()) continue;
        target += before + name + '=' + encoded(value);
        before = '&';
    }
    const Result<Socket> socket = connect_to(socket_, patience_);
    if (!socket) return socket.error();
    const Result<std::string> answer = converse(
        *socket,
        fmt::format(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            method, target),
        patience_);
    if (!answer) return answer.error();
    const std::size_t head_end = answer->find("\r\n\r\n");
    if (head_end == std::string::npos || answer->compare(0, 9, "HTTP/1.1 ") != 0)
        return Error{
            fmt::format("{}: the peer is not udpproxy, or closed the connection", socket_)};
    std::string body = answer->substr(head_end + 4);
    if ((*answer)[9] == '2') return body;
    const Json refusal = Json::parse(body, nullptr, false);
    if (refusal.is_object() && refusal.contains("error") && refusal["error"].is_string())
        return Error{refusal["error"].get<std::string>()};
    return Error{answer->substr(9, answer->find("\r\n") - 9)};
}

Result<Json> Client::json(const std::string& method, const std::string& path,
                          const Arguments& arguments) const {
    const Result<std::string> body = text(method, path, arguments);
    if (!body) return body.error();
    Json parsed = Json::parse(*body, nullptr, false);
    if (parsed.is_discarded()) return Error{"udpproxy's answer is not JSON"};
    return parsed;
}

}  // namespace udpproxy::ctl
