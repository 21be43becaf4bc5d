// Maps the tally's file.
#include "tally.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "sockets.hpp"

namespace udpproxy::traffic {

Tally& mapped_tally(const std::string& path) {
    int file = -1;
    if (!path.empty()) {
        file = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (file < 0) fail("open " + path);
        if (::ftruncate(file, sizeof(Tally)) != 0) fail("ftruncate " + path);
    }
    const int kind = path.empty() ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void* const place = ::mmap(nullptr, sizeof(Tally), PROT_READ | PROT_WRITE, kind, file, 0);
    if (place == MAP_FAILED) fail("mmap " + path);
    if (file >= 0) ::close(file);
    return *new (place) Tally;
}

}  // namespace udpproxy::traffic
