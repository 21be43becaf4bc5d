// Maps the tally's file.
#include "tally.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "sockets.hpp"

namespace udpproxy::bench {

Tally& mapped_tally(const std::string& path) {
    int file = -1;
    if (!path.empty()) {
        file = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        demand(file >= 0, "open " + path);
        demand(::ftruncate(file, sizeof(Tally)) == 0, "ftruncate " + path);
    }
    const int kind = path.empty() ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* const place = ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, kind, file, 0);
    demand(place != MAP_FAILED, "mmap " + path);
    if (file >= 0) ::close(file);
    return *new (place) Tally;
}

}  // namespace udpproxy::bench
