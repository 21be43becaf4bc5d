// Groups, and files that a start will open, as this process's user finds them. Opens nothing.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

namespace udpproxy {

/// The number of a group (getgrnam_r(3)); nothing when there is no such group.
[[nodiscard]] std::optional<gid_t> find_group(const std::string& name);
inline constexpr std::string_view no_such_group = "there is no such group";

/// The name of the user that this process runs as, or its number when it has no name.
[[nodiscard]] std::string effective_user();

/// The directory of a file's path; `.` for a name alone.
[[nodiscard]] std::string directory_of(const std::string& path);

/// Why no file can be made in the directory: 0 or errno (ENOENT, ENOTDIR, EACCES, EROFS).
[[nodiscard]] int error_of_new_file_in(const std::string& directory);

/// Why the file can neither be opened for writing nor be made: 0 or errno.
[[nodiscard]] int error_of_writing(const std::string& path);

}  // namespace udpproxy
