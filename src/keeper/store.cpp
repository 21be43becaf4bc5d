// Three messages to the manager, and what the environment says of its answer.
#include "store.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "udpproxy/base/printable.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/keeper/worker_start.hpp"

namespace udpproxy {

namespace {

constexpr int first_handed = 3;  // SD_LISTEN_FDS_START
constexpr Duration store_limit = std::chrono::seconds{2};
constexpr Duration send_again_after = std::chrono::milliseconds{10};

constexpr std::string_view to_store = "FDSTORE=1\nFDNAME=udpproxy-sessions";
constexpr std::string_view to_forget = "FDSTOREREMOVE=1\nFDNAME=udpproxy-sessions";
static_assert(to_store.ends_with(stored_name) && to_forget.ends_with(stored_name));

std::string_view told(const char* name) {
    const char* const value = std::getenv(name);
    return value != nullptr ? value : "";
}

/// Returns 0 or errno: EAGAIN where the manager has had no room until then.
int send_until(Instant deadline, const ManagerSocket& manager, std::string_view message,
               int descriptor = -1) {
    for (;;) {
        const int error = manager.send(message, descriptor);
        if (error != EAGAIN || monotonic_now() >= deadline) return error;
        sleep_for(send_again_after);
    }
}

}  // namespace

Descriptor take_stored(pid_t process) {
    Descriptor stored;
    if (told("LISTEN_PID") != std::to_string(process)) return stored;
    const std::string_view count = told("LISTEN_FDS");
    int descriptors = 0;
    std::from_chars(count.data(), count.data() + count.size(), descriptors);
    std::string_view names = told("LISTEN_FDNAMES");
    for (int i = 0; i < descriptors && !names.empty(); ++i) {
        const std::string_view name = names.substr(0, names.find(':'));
        names.remove_prefix(std::min(name.size() + 1, names.size()));
        // Of several, which there should not be, the others are closed.
        if (name == stored_name) stored = Descriptor{first_handed + i};
    }
    if (stored && ::fcntl(stored.descriptor(), F_SETFD, FD_CLOEXEC) != 0) (void)stored.release();
    return stored;
}

std::string store(const ManagerSocket& manager, int descriptor) {
    const Instant deadline = monotonic_now() + store_limit;
    std::array<int, 2> ends{-1, -1};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return "pipe: " + error_text(errno);
    const Descriptor taken{ends[0]};
    Descriptor open{ends[1]};
    int error = send_until(deadline, manager, to_forget);
    if (error == 0) error = send_until(deadline, manager, to_store, descriptor);
    // The manager closes the pipe's end when it has carried out what came before.
    if (error == 0) error = send_until(deadline, manager, "BARRIER=1", open.descriptor());
    if (error != 0) return "the service manager: " + error_text(error);
    open = Descriptor{};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - monotonic_now());
    pollfd waited{taken.descriptor(), 0, 0};
    if (::poll(&waited, 1, std::max(static_cast<int>(left.count()), 0)) > 0) return {};
    return "the service manager: " + no_answer(store_limit).message;
}

int forget_stored(const ManagerSocket& manager) noexcept { return manager.send(to_forget); }

}  // namespace udpproxy
