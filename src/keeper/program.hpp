// Programs that a keeper may become: the file behind a path, which the worker's user must not be
// able to write, and the question whether it would go on with what this one has.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/result.hpp"
#include "udpproxy/base/time.hpp"

namespace udpproxy {

/// An open file, and what it was when it was opened. A worker can put another file in the place of
/// the descriptor, but not of these.
class ProgramFile {
public:
    /// Errors: open and stat; it is no file, or others can write it.
    [[nodiscard]] static Result<ProgramFile> open(const std::string& path);
    /// The file that this process executes. Errors: open and stat.
    [[nodiscard]] static Result<ProgramFile> open_own();
    /// An open descriptor. Errors: stat.
    [[nodiscard]] static Result<ProgramFile> take(int descriptor);

    [[nodiscard]] int descriptor() const noexcept { return file_.descriptor(); }
    /// Whether the descriptor is still the same file.
    [[nodiscard]] bool is_same() const noexcept;

private:
    struct Identity {
        dev_t device = 0;
        ino_t inode = 0;
        uid_t owner = 0;
        mode_t mode = 0;
        off_t bytes = 0;

        friend bool operator==(const Identity&, const Identity&) = default;
    };

    [[nodiscard]] static Result<ProgramFile> take(Descriptor file);
    [[nodiscard]] static Identity identity_of(int descriptor) noexcept;

    Descriptor file_;
    Identity identity_;
};

/// The path that this program was started by, absolute, if it leads there; else its file's.
[[nodiscard]] std::string own_program_path();

/// A child that runs a program with `--check-upgrade FORM` and the arguments of the start. Of this
/// process's descriptors it has the ledger alone, as its standard input.
class UpgradeQuestion {
public:
    /// `arguments` are argv. Errors: pipe, fork.
    [[nodiscard]] static Result<UpgradeQuestion> ask(const ProgramFile& program,
                                                     const std::vector<std::string>& arguments,
                                                     std::uint32_t ledger_form, int ledger,
                                                     const sigset_t& signals, Instant now);

    [[nodiscard]] pid_t child() const noexcept { return child_; }
    [[nodiscard]] int descriptor() const noexcept { return output_.descriptor(); }
    [[nodiscard]] Instant deadline() const noexcept { return deadline_; }
    /// Reads a part of what the child has said meanwhile; does not wait. False: there is no more.
    bool read() noexcept;
    /// All of it; what does not end is read for as long as a pipe takes at once.
    void read_all() noexcept;
    /// Of a child that has ended like this: empty if it said yes, else why not, which is its last
    /// line if there is one.
    [[nodiscard]] std::string objection(int status) const;

private:
    UpgradeQuestion() = default;

    pid_t child_ = 0;
    Descriptor output_;
    Instant deadline_{};
    std::string said_;  // the end of it
};

}  // namespace udpproxy
