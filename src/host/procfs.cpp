// Parses proc(5) defensively: a field that is missing or odd is "not known", never an error.
#include "udpproxy/host/procfs.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <sstream>

#include "udpproxy/base/process_names.hpp"

namespace udpproxy {

namespace {

template <class T>
std::optional<T> to_number(std::string_view text, int base = 10) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end == text.data()) return std::nullopt;
    return value;
}

std::vector<std::string> words_of(const std::string& line) {
    std::vector<std::string> words;
    std::istringstream stream{line};
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
}

/// `0100007F:0035`, each group of 32 bits in the byte order of the machine.
std::optional<Endpoint> parse_proc_endpoint(std::string_view text) {
    const std::size_t colon = text.find(':');
    if (colon != 8 && colon != 32) return std::nullopt;
    const auto port = to_number<std::uint16_t>(text.substr(colon + 1), 16);
    if (!port) return std::nullopt;
    std::array<std::uint32_t, 4> groups{};
    for (std::size_t i = 0; i < colon / 8; ++i) {
        const auto group = to_number<std::uint32_t>(text.substr(i * 8, 8), 16);
        if (!group) return std::nullopt;
        groups[i] = *group;
    }
    if (colon == 8) return Endpoint{Address::ipv4(groups[0]), 0, *port};
    in6_addr address{};
    std::memcpy(&address, groups.data(), sizeof address);
    return Endpoint{Address::ipv6(address), 0, *port};
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

Directory open_directory(const std::string& path) { return {::opendir(path.c_str()), ::closedir}; }

/// The inodes of the sockets that another process has, by its directory of descriptors.
std::vector<std::uint64_t> sockets_in(const std::string& path) {
    constexpr std::string_view before = "socket:[";
    std::vector<std::uint64_t> inodes;
    const Directory descriptors = open_directory(path);
    if (descriptors == nullptr) return inodes;
    for (const dirent* entry = ::readdir(descriptors.get()); entry != nullptr;
         entry = ::readdir(descriptors.get())) {
        std::array<char, 64> text{};
        const ssize_t length =
            ::readlink((path + '/' + entry->d_name).c_str(), text.data(), text.size());
        if (length <= 0) continue;
        const std::string_view target{text.data(), static_cast<std::size_t>(length)};
        if (target.starts_with(before) && target.ends_with(']'))
            inodes.push_back(to_number<std::uint64_t>(
                                 target.substr(before.size(), target.size() - before.size() - 1))
                                 .value_or(0));
    }
    return inodes;
}

/// The inodes of the sockets of this process. It is not looked at in /proc: the kernel keeps an
/// entry for each descriptor that was, and takes them down before the process can be waited for
/// (proc_flush_pid of fs/proc/base.c), 20 ms for 15 000.
std::vector<std::uint64_t> own_sockets() {
    std::vector<std::uint64_t> inodes;
    const int end = descriptors_end();
    for (int descriptor = 0; descriptor < end; ++descriptor) {
        struct stat file {};
        if (::fstat(descriptor, &file) == 0 && S_ISSOCK(file.st_mode))
            inodes.push_back(file.st_ino);
    }
    return inodes;
}

}  // namespace

std::optional<std::string> read_host_file(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    if (!file) return std::nullopt;
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::optional<std::uint64_t> read_host_number(const std::string& path) {
    const auto text = read_host_file(path);
    return text ? to_number<std::uint64_t>(*text) : std::nullopt;
}

std::vector<PortRange> parse_port_list(std::string_view text) {
    std::vector<PortRange> ranges;
    std::string list{text};
    std::replace(list.begin(), list.end(), ',', ' ');
    for (const std::string& word : words_of(list)) {
        const std::size_t dash = word.find('-');
        const auto first = to_number<std::uint16_t>(std::string_view{word}.substr(0, dash));
        const auto last = dash == std::string::npos
                              ? first
                              : to_number<std::uint16_t>(std::string_view{word}.substr(dash + 1));
        if (first && last && *first <= *last) ranges.push_back({*first, *last});
    }
    return ranges;
}

std::optional<std::uint64_t> find_counter(std::string_view text, std::string_view group,
                                          std::string_view name) {
    const std::string prefix = std::string{group} + ':';
    std::istringstream stream{std::string{text}};
    std::vector<std::string> names;
    for (std::string line; std::getline(stream, line);) {
        std::vector<std::string> words = words_of(line);
        if (words.empty() || words[0] != prefix) continue;
        if (names.empty()) {
            names = std::move(words);
            continue;
        }
        const auto place = std::find(names.begin(), names.end(), name);
        const auto index = static_cast<std::size_t>(place - names.begin());
        return index < words.size() ? to_number<std::uint64_t>(words[index]) : std::nullopt;
    }
    return std::nullopt;
}

std::optional<std::uint64_t> find_counter6(std::string_view text, std::string_view name) {
    std::istringstream stream{std::string{text}};
    for (std::string line; std::getline(stream, line);) {
        const std::vector<std::string> words = words_of(line);
        if (words.size() == 2 && words[0] == name) return to_number<std::uint64_t>(words[1]);
    }
    return std::nullopt;
}

std::uint64_t find_mask(std::string_view status, std::string_view key) {
    std::istringstream stream{std::string{status}};
    for (std::string line; std::getline(stream, line);) {
        const std::vector<std::string> words = words_of(line);
        if (words.size() == 2 && words[0] == key)
            return to_number<std::uint64_t>(words[1], 16).value_or(0);
    }
    return 0;
}

std::vector<SocketLine> parse_sockets(std::string_view text) {
    // sl local remote st queues tr:when retransmits uid timeout inode references pointer drops
    constexpr std::size_t local_field = 1;
    constexpr std::size_t state_field = 3;
    constexpr std::string_view listening = "0A";  // TCP_LISTEN (include/net/tcp_states.h)
    constexpr std::size_t user_field = 7;
    constexpr std::size_t inode_field = 9;
    constexpr std::size_t drops_field = 12;
    std::vector<SocketLine> sockets;
    std::istringstream stream{std::string{text}};
    for (std::string line; std::getline(stream, line);) {
        const std::vector<std::string> words = words_of(line);
        if (words.size() <= drops_field) continue;
        const auto local = parse_proc_endpoint(words[local_field]);
        if (!local) continue;
        sockets.push_back({*local, to_number<std::uint64_t>(words[inode_field]).value_or(0),
                           to_number<std::uint64_t>(words[drops_field]).value_or(0),
                           to_number<std::uint32_t>(words[user_field]).value_or(0),
                           words[state_field] == listening});
    }
    return sockets;
}

int descriptors_end() {
    std::istringstream status{read_host_file("/proc/self/status").value_or("")};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("FDSize:")) return std::atoi(line.c_str() + 7);
    return 0;
}

std::vector<SocketHolder> holders_of(const std::vector<std::uint64_t>& inodes) {
    std::vector<SocketHolder> holders(inodes.size());
    const Directory processes = open_directory("/proc");
    if (inodes.empty() || processes == nullptr) return holders;
    for (const dirent* process = ::readdir(processes.get()); process != nullptr;
         process = ::readdir(processes.get())) {
        if (process->d_name[0] < '0' || process->d_name[0] > '9') continue;
        const std::string base = std::string{"/proc/"} + process->d_name;
        std::string name = read_host_file(base + "/comm").value_or("");
        while (!name.empty() && name.back() == '\n') name.pop_back();
        const int found = to_number<int>(process->d_name).value_or(0);
        const bool is_own = found == ::getpid();
        // The keeper has the same descriptors, and is the process that obeys signals.
        if (name == worker_name && !is_own) continue;
        if (name == worker_name) name = keeper_name;
        // Any user names a process as he likes; escape sequences must not reach a terminal.
        std::replace_if(
            name.begin(), name.end(), [](char letter) { return letter < ' ' || letter > '~'; },
            '?');
        for (const std::uint64_t inode : is_own ? own_sockets() : sockets_in(base + "/fd")) {
            const auto place = std::find(inodes.begin(), inodes.end(), inode);
            if (place == inodes.end()) continue;
            SocketHolder& holder = holders[static_cast<std::size_t>(place - inodes.begin())];
            // A service manager keeps a copy of what it hands over.
            if (holder.process != ::getpid()) holder = {found, name};
        }
    }
    return holders;
}

std::string text_of(const SocketHolder& holder, std::uint32_t user) {
    return holder.process != 0 ? fmt::format("{} (process {})", holder.name, holder.process)
                               : fmt::format("a socket of user {}", user);
}

std::optional<std::uint64_t> find_unix_listener(std::string_view text, std::string_view path) {
    constexpr std::uint32_t accepts = 0x10000;  // __SO_ACCEPTCON (include/linux/net.h)
    std::istringstream stream{std::string{text}};
    for (std::string line; std::getline(stream, line);) {
        std::istringstream fields{line};
        std::string address;
        std::string references;
        std::string protocol;
        std::string flags;
        std::string type;
        std::string state;
        std::string inode;
        std::string found;
        fields >> address >> references >> protocol >> flags >> type >> state >> inode >> std::ws;
        std::getline(fields, found);  // the rest: a path may have spaces
        if (found == path && (to_number<std::uint32_t>(flags, 16).value_or(0) & accepts) != 0)
            return to_number<std::uint64_t>(inode);
    }
    return std::nullopt;
}

bool may_hold(const Endpoint& held, const Endpoint& wanted) noexcept {
    const bool is_of_both_families = held.family() == Family::ipv6 &&
                                     held.address.is_unspecified() &&
                                     wanted.family() == Family::ipv4;
    return overlap(held, wanted) || (is_of_both_families && held.port == wanted.port);
}

std::optional<BoundSocket> find_holder(const Endpoint& endpoint, Transport transport) {
    const bool is_tcp = transport == Transport::tcp;
    // An IPv4 address may be held by an IPv6 socket too.
    for (const char* path : {is_tcp ? "/proc/net/tcp" : "/proc/net/udp",
                             is_tcp ? "/proc/net/tcp6" : "/proc/net/udp6"}) {
        for (const SocketLine& line : parse_sockets(read_host_file(path).value_or(""))) {
            if (line.listens != is_tcp || !may_hold(line.local, endpoint)) continue;
            const SocketHolder holder = holders_of({line.inode}).front();
            return BoundSocket{line.local, line.drops, holder.name, text_of(holder, line.user)};
        }
    }
    return std::nullopt;
}

}  // namespace udpproxy
