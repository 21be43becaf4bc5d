// Workers that a keeper must survive: udpproxy's keeper, and a worker that does what the first
// argument says. Once it has died of that, the next one only waits for the end. Started by
// tests/e2e/test_keeper.py.
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/printable.hpp"
#include "udpproxy/base/time.hpp"
#include "udpproxy/keeper/channel.hpp"
#include "udpproxy/keeper/keeper.hpp"

namespace {

using namespace udpproxy;

void tell(const std::string& line) {
    print(line + '\n');
    std::fflush(stdout);
}

/// Until a signal to stop or to hand over, which it returns.
int wait_for_end(Channel& keeper) {
    for (;;) {
        pollfd waited{keeper.descriptor(), POLLIN, 0};
        ::poll(&waited, 1, -1);
        const std::optional<Message> message = keeper.receive();
        if (!message) continue;
        if (message->kind == MessageKind::upgrade_refused)
            tell("refused " + std::string{message->text});
        if (message->kind == MessageKind::signal && message->number != SIGHUP)
            return message->number;
    }
}

void wait_until_read(const Channel& keeper) {
    int unread = 1;
    while (::ioctl(keeper.descriptor(), SIOCOUTQ, &unread) == 0 && unread > 0)
        sleep_for(std::chrono::milliseconds{1});
}

/// Puts `file` in the place of every descriptor that leads to this program.
void replace_programs(const std::string& file) {
    const int other = ::open(file.c_str(), O_RDONLY);
    const auto own = std::filesystem::read_symlink("/proc/self/exe");
    for (int descriptor = 3; descriptor < 1024; ++descriptor) {
        std::error_code error;
        const auto link = "/proc/self/fd/" + std::to_string(descriptor);
        if (std::filesystem::read_symlink(link, error) == own && !error) {
            ::dup2(other, descriptor);
            tell("replaced");
        }
    }
}

int work(const WorkerStart& start, const std::string& deed, const std::string& argument) {
    sigset_t stops;
    sigemptyset(&stops);
    for (const int signal : {SIGTERM, SIGINT}) sigaddset(&stops, signal);
    ::sigprocmask(SIG_BLOCK, &stops, nullptr);
    Channel keeper{start.channel};
    tell("start " + std::string{name_of(start.reason)} +
         (start.without_sessions ? " without sessions" : ""));
    if (deed == "dies-of-sessions" && !start.without_sessions) ::abort();
    if (deed == "never-ready" || deed == "--config") ::pause();
    if (deed == "fails") return 3;
    (void)keeper.send({MessageKind::ready, 0, {}});
    wait_until_read(keeper);
    if (start.reason != StartReason::first) {
        wait_for_end(keeper);
        return 0;
    }
    if (deed == "says") (void)keeper.send({MessageKind::manager, 0, argument});
    if (deed == "floods") {
        const std::string status = "STATUS=" + std::string(4000, 'x');
        while (!keeper.receive()) (void)keeper.send({MessageKind::manager, 0, status});
        return 0;
    }
    if (deed == "closes") {
        close_all_but({});
        tell("done");
        ::pause();
    }
    if (deed == "replaces") {
        const int other = ::open(argument.c_str(), O_RDWR);
        for (const int descriptor : start.keepers) ::dup2(other, descriptor);
        tell("done");
        ::pause();
    }
    const int signal = wait_for_end(keeper);
    if (deed == "replaces-program" && signal == SIGUSR2) replace_programs(argument);
    if (deed == "leaves-its-keeper-s") ::dup2(start.keepers.back(), start.ledger);
    if (deed == "leaves-nothing") ::close(start.ledger);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> arguments(argv, argv + argc);
    const auto argument = [&](std::size_t number) {
        return number < arguments.size() ? arguments[number] : "";
    };
    if (argument(1) == "--check-upgrade") {
        for (int descriptor = 3; descriptor < 1024; ++descriptor) {
            if (::fcntl(descriptor, F_GETFD) < 0) continue;
            tell("descriptor " + std::to_string(descriptor) + " was left to it");
            return 1;
        }
        tell("udpproxy goes on");
        return 0;
    }
    return keep({arguments, 1},
                [&](const WorkerStart& start) { return work(start, argument(1), argument(2)); });
}
