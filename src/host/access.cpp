// Asks the kernel with the effective user and its capabilities, as open(2) would: access(2) alone
// takes the real ones.
#include "udpproxy/host/access.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <vector>

namespace udpproxy {

namespace {

constexpr std::size_t entry_bytes_least = 1024;
constexpr std::size_t entry_bytes_most = std::size_t{1} << 20;  // of a group with many members

/// Calls `look(buffer)`, which returns 0 or errno, with buffers that grow while they are too small.
template <class Look>
void look_up_entry(Look&& look) {
    for (std::size_t bytes = entry_bytes_least; bytes <= entry_bytes_most; bytes *= 4) {
        std::vector<char> buffer(bytes);
        if (look(buffer) != ERANGE) return;
    }
}

}  // namespace

std::optional<gid_t> find_group(const std::string& name) {
    std::optional<gid_t> number;
    look_up_entry([&](std::vector<char>& buffer) {
        group entry{};
        group* found = nullptr;
        const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
        if (found != nullptr) number = found->gr_gid;
        return error;
    });
    return number;
}

std::string effective_user() {
    std::string name = std::to_string(::geteuid());
    look_up_entry([&](std::vector<char>& buffer) {
        passwd entry{};
        passwd* found = nullptr;
        const int error = ::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found);
        if (found != nullptr) name = found->pw_name;
        return error;
    });
    return name;
}

std::string directory_of(const std::string& path) {
    const std::string directory = std::filesystem::path(path).parent_path().string();
    return directory.empty() ? "." : directory;
}

int error_of_new_file_in(const std::string& directory) {
    struct stat found {};
    if (::stat(directory.c_str(), &found) != 0) return errno;
    if (!S_ISDIR(found.st_mode)) return ENOTDIR;
    return ::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

int error_of_writing(const std::string& path) {
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0)
        return errno == ENOENT ? error_of_new_file_in(directory_of(path)) : errno;
    if (S_ISDIR(found.st_mode)) return EISDIR;
    return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0 ? 0 : errno;
}

}  // namespace udpproxy
