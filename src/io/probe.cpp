// Whether the kernel allows io_uring: it is tried as the engine will use it; no version is read.
#include "udpproxy/io/probe.hpp"

#include <sys/utsname.h>

#include "udpproxy/io/uring.hpp"
#include "udpproxy/net/listener.hpp"

namespace udpproxy {

UringProbe probe_io_uring(std::uint32_t slots_max, std::uint32_t buffers_per_leg) {
    ListenerRequest request;
    request.endpoint = Endpoint{Address::ipv4(htonl(INADDR_LOOPBACK)), 0, 0};
    Result<ListenerSockets> opened = open_listeners(request, 1);
    if (!opened) return {false, "trial socket: " + opened.error().message, opened.error().code};

    EngineSetup setup;
    setup.slots_max = slots_max;
    setup.buffers_per_leg = buffers_per_leg;
    Result<UringBackend> engine = UringBackend::open(setup);
    if (!engine) return {false, engine.error().message, engine.error().code};
    std::vector<ListenerSocket> listeners;
    listeners.push_back(ListenerSocket{std::move(opened->sockets[0]), Family::ipv4});
    if (Result<void> started = engine->start(std::move(listeners)); !started)
        return {false, started.error().message, started.error().code};
    // A kernel that does not know multishot recvmsg ends the receive at once, with EINVAL.
    const Completions& completions = engine->wait(monotonic_now());
    if (!completions.faults.empty()) {
        const int error = completions.faults[0].error;
        return {false, "recvmsg multishot: " + error_text(error), error};
    }

    utsname system{};
    ::uname(&system);
    return {true,
            std::string{"Linux "} + system.release +
                " has DEFER_TASKRUN, buffer rings and multishot recvmsg",
            0};
}

}  // namespace udpproxy
