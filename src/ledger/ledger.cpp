// The ledger's memory: made once, never resized, written so that whoever reads it after the
// writer's death at any instruction sees what was there, what is there, or that it is torn.
//
// Between two processes on one machine the order of the compiler is enough: a death comes between
// two instructions, and everything before it is seen by whoever has learnt of it.
#include "udpproxy/ledger/ledger.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "ledger/layout.hpp"
#include "udpproxy/base/assert.hpp"
#include "udpproxy/base/descriptor.hpp"
#include "udpproxy/base/reserved.hpp"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace udpproxy {

namespace {

constexpr int wanted_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

/// Which boot this is: monotonic time means nothing in another one.
Result<std::array<char, 36>> read_boot() {
    const char* path = "/proc/sys/kernel/random/boot_id";
    const Descriptor file{::open(path, O_RDONLY | O_CLOEXEC)};
    if (!file) return system_error(std::string{path} + ": open", errno);
    std::array<char, 36> boot{};
    if (::read(file.descriptor(), boot.data(), boot.size()) != static_cast<ssize_t>(boot.size()))
        return Error{std::string{path} + ": it is shorter than a boot id"};
    return boot;
}

Result<Descriptor> make_file(std::size_t bytes) {
    // ftruncate() beyond it ends the process (SIGXFSZ).
    rlimit limit{};
    if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
        return Error{"ftruncate: the limit of a file's size (RLIMIT_FSIZE) is " +
                     std::to_string(limit.rlim_cur) + " bytes, the ledger has " +
                     std::to_string(bytes)};
    const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int made = ::memfd_create("udpproxy-ledger", flags | MFD_NOEXEC_SEAL);
    // Linux 6.3 has the flag.
    if (made < 0 && errno == EINVAL) made = ::memfd_create("udpproxy-ledger", flags);
    if (made < 0) return system_error("memfd_create", errno);
    Descriptor file{made};
    if (::ftruncate(made, static_cast<off_t>(bytes)) != 0) return system_error("ftruncate", errno);
    if (::fcntl(made, F_ADD_SEALS, wanted_seals) != 0)
        return system_error("fcntl(F_ADD_SEALS)", errno);
    return file;
}

/// Gives a part of the file memory. Where there is none (vm.overcommit_memory = 2), a store through
/// the mapping would end the process with SIGBUS (shmem_inode_acct_blocks() in mm/shmem.c).
bool give_memory(int descriptor, std::size_t offset, std::size_t bytes) noexcept {
    int given = 0;
    do
        given = ::fallocate(descriptor, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                            static_cast<off_t>(bytes));
    while (given != 0 && errno == EINTR);
    return given == 0;
}

/// A part of the file that has memory.
struct Extent {
    std::size_t begin = 0;
    std::size_t end = 0;
};

/// The parts of the file that have memory. Reading a hole through the mapping would fill it with
/// memory, and a hostile ledger can be nothing but holes.
Result<std::vector<Extent>> find_extents(int descriptor, std::size_t bytes) {
    std::vector<Extent> extents;
    for (std::size_t at = 0; at < bytes;) {
        const off_t begin = ::lseek(descriptor, static_cast<off_t>(at), SEEK_DATA);
        if (begin < 0 && errno == ENXIO) break;
        const off_t end = begin < 0 ? -1 : ::lseek(descriptor, begin, SEEK_HOLE);
        if (end < 0) return system_error("lseek", errno);
        extents.push_back({static_cast<std::size_t>(begin), static_cast<std::size_t>(end)});
        at = extents.back().end;
    }
    return extents;
}

std::size_t extents_end(const std::vector<Extent>& extents) noexcept {
    return extents.empty() ? ledger_page_bytes : extents.back().end;
}

/// Why the file is not one whose memory can be read without a fault.
Result<void> check_file(int descriptor) {
    const int seals = ::fcntl(descriptor, F_GET_SEALS);
    if (seals < 0) return Error{"it is no file in memory (memfd)"};
    if ((seals & wanted_seals) != wanted_seals) return Error{"its size is not sealed"};
    // Huge pages have seals too, and end a reader who needs one when there is none.
    struct statfs system {};
    if (::fstatfs(descriptor, &system) != 0) return system_error("fstatfs", errno);
    if (system.f_type != TMPFS_MAGIC) return Error{"it is no file in memory of ordinary pages"};
    return {};
}

Result<RecordedHeader> read_header(int descriptor) {
    RecordedHeader header{};
    const ssize_t count = ::pread(descriptor, &header, sizeof header, 0);
    if (count < 0) return system_error("pread", errno);
    if (count != sizeof header || header.magic != ledger_magic) return Error{"it is no ledger"};
    if (!reads_ledger_form(header.form))
        return Error{"its form is " + std::to_string(header.form) + ", this program reads form " +
                     std::to_string(ledger_form)};
    const Result<std::array<char, 36>> boot = read_boot();
    if (!boot) return boot.error();
    if (header.boot != *boot) return Error{"it is of another boot"};
    return header;
}

/// Stores that come before it in the program come before it in memory.
void store(std::uint64_t& word, std::uint64_t value) noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    std::atomic_ref<std::uint64_t>{word}.store(value, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}
void store(std::uint64_t& word, Mark mark) noexcept {
    store(word, static_cast<std::uint64_t>(mark));
}

}  // namespace

struct Ledger::State {
    State(const LedgerSize& wanted, Descriptor descriptor)
        : size(wanted),
          file(std::move(descriptor)),
          pages_given(is_written_here() ? ledger_bytes(size) / ledger_page_bytes : 0) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
        if (memory != nullptr) ::munmap(memory, mapped_bytes);
    }

    [[nodiscard]] Result<void> map(int descriptor, std::size_t bytes, int protection) {
        void* mapped =
            ::mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, descriptor, 0);
        if (mapped == MAP_FAILED) return system_error("mmap", errno);
        memory = static_cast<std::byte*>(mapped);
        mapped_bytes = bytes;
        return {};
    }
    /// Of what is written here; null: there is no memory for it. No type crosses a page, and all
    /// offsets are aligned.
    template <class T>
    T* at(std::size_t offset) noexcept {
        UDPPROXY_ASSERT(is_written_here());
        // Shards share pages of the table of ports.
        const std::size_t page = offset / ledger_page_bytes;
        const std::atomic_ref<std::uint8_t> given{pages_given[page]};
        if (given.load(std::memory_order_relaxed) == 0) {
            if (!give_memory(file.descriptor(), page * ledger_page_bytes, ledger_page_bytes))
                return nullptr;
            given.store(1, std::memory_order_relaxed);
        }
        return reinterpret_cast<T*>(memory + offset);
    }
    /// A copy of what another process has written; zero where nothing was. What may change behind
    /// our back is looked at only as a copy.
    template <class T>
    [[nodiscard]] T copy(std::size_t offset) const noexcept {
        UDPPROXY_ASSERT(!is_written_here());
        T value{};
        if (has_memory(offset, sizeof value)) std::memcpy(&value, memory + offset, sizeof value);
        return value;
    }
    [[nodiscard]] bool is_written_here() const noexcept { return bool{file}; }
    [[nodiscard]] bool has_memory(std::size_t offset, std::size_t bytes) const noexcept {
        const auto next = std::upper_bound(
            extents.begin(), extents.end(), offset,
            [](std::size_t value, const Extent& extent) { return value < extent.end; });
        return next != extents.end() && offset >= next->begin && offset + bytes <= next->end;
    }

    LedgerSize size;
    Descriptor file;                     // of a ledger that is written here
    Reserved<std::uint8_t> pages_given;  // the same; 1 where there is memory
    std::byte* memory = nullptr;
    std::size_t mapped_bytes = 0;
    std::uint64_t control_sequence = 0;  // of the last one put
    std::vector<Extent> extents;         // of a ledger that is read, in order
    std::uint64_t closed_at = 0;         // the same
};

bool reads_ledger_form(std::uint32_t form) noexcept { return form == ledger_form; }

Ledger::Ledger(std::unique_ptr<State> state) : state_(std::move(state)) {}
Ledger::Ledger(Ledger&&) noexcept = default;
Ledger& Ledger::operator=(Ledger&&) noexcept = default;
Ledger::~Ledger() = default;

Result<Ledger> Ledger::create(const LedgerSize& size) try {
    UDPPROXY_ASSERT(is_possible(size));
    const Result<std::array<char, 36>> boot = read_boot();
    if (!boot) return boot.error();
    Result<Descriptor> file = make_file(ledger_bytes(size));
    if (!file) return file.error();
    const int descriptor = file->descriptor();
    auto state = std::make_unique<State>(size, std::move(*file));
    const Result<void> mapped = state->map(descriptor, ledger_bytes(size), PROT_READ | PROT_WRITE);
    if (!mapped) return mapped.error();
    auto* const header = state->at<RecordedHeader>(0);
    if (header == nullptr) return system_error("fallocate", errno);
    *header = {ledger_magic, ledger_form, size.shards, size.groups_per_shard,
               size.pools,   *boot,       0,           0};
    return Ledger{std::move(state)};
} catch (const std::bad_alloc&) {
    return system_error("mmap", ENOMEM);
}

Result<Ledger> Ledger::open(int descriptor) {
    const Result<void> file = check_file(descriptor);
    if (!file) return file.error();
    const Result<RecordedHeader> header = read_header(descriptor);
    if (!header) return header.error();
    const LedgerSize size{header->shards, header->groups_per_shard, header->pools};
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) return system_error("fstat", errno);
    if (!is_possible(size) || status.st_size != static_cast<off_t>(ledger_bytes(size)))
        return Error{"its size is not what its header says"};
    Result<std::vector<Extent>> extents = find_extents(descriptor, ledger_bytes(size));
    if (!extents) return extents.error();
    auto state = std::make_unique<State>(size, Descriptor{});
    state->extents = std::move(*extents);
    state->closed_at = header->closed_at;
    // No more than was written: whoever goes on has a ledger of its own in its address space.
    const std::size_t written = extents_end(state->extents);
    const Result<void> mapped = state->map(descriptor, written, PROT_READ);
    if (!mapped) return mapped.error();
    return Ledger{std::move(state)};
}

int Ledger::descriptor() const noexcept { return state_->file.descriptor(); }
const LedgerSize& Ledger::size() const noexcept { return state_->size; }

bool Ledger::write(std::uint32_t shard, std::uint32_t group, const GroupRecord& record) noexcept {
    UDPPROXY_ASSERT(shard < size().shards && group < size().groups_per_shard);
    UDPPROXY_ASSERT(is_possible(record));
    const RecordedGroup bytes = recorded(record, shard, group);
    auto* const place = state_->at<RecordedGroup>(group_offset(size(), shard, group));
    if (place == nullptr) return false;
    store(place->checksum, Mark::being_written);
    constexpr std::size_t head = sizeof place->checksum;
    std::memcpy(reinterpret_cast<std::byte*>(place) + head,
                reinterpret_cast<const std::byte*>(&bytes) + head, sizeof bytes - head);
    store(place->checksum, bytes.checksum);
    return true;
}

void Ledger::erase(std::uint32_t shard, std::uint32_t group) noexcept {
    UDPPROXY_ASSERT(shard < size().shards && group < size().groups_per_shard);
    auto* const place = state_->at<RecordedGroup>(group_offset(size(), shard, group));
    if (place != nullptr) store(place->checksum, Mark::free);
}

void Ledger::rest(std::uint32_t pool, std::uint16_t port, Instant until) noexcept {
    UDPPROXY_ASSERT(pool < size().pools);
    const auto ns = std::max<std::int64_t>(until.time_since_epoch().count(), 1);
    const std::int64_t units = ((ns - 1) >> rest_unit_shift) + 1;
    const auto word = static_cast<std::uint32_t>(std::min<std::int64_t>(units, UINT32_MAX));
    if (auto* const place = state_->at<std::uint32_t>(rest_offset(size(), pool, port)))
        std::atomic_ref<std::uint32_t>{*place}.store(word, std::memory_order_relaxed);
}

bool Ledger::put(std::span<const std::byte> control) noexcept {
    if (control.size() > control_bytes_max) return false;
    const std::uint64_t sequence = state_->control_sequence + 1;
    const std::size_t offset = area_offset(sequence % 2);
    const std::size_t words = (control.size() + 7) / 8;
    auto* const area = state_->at<RecordedArea>(offset);
    auto* const content = state_->at<std::uint64_t>(offset + ledger_page_bytes);
    if (area == nullptr || content == nullptr ||
        !give_memory(descriptor(), offset, ledger_page_bytes + words * sizeof(std::uint64_t)))
        return false;
    store(area->checksum, Mark::being_written);
    area->sequence = sequence;
    area->bytes = control.size();
    if (words > 0) content[words - 1] = 0;
    std::copy(control.begin(), control.end(), reinterpret_cast<std::byte*>(content));
    store(area->checksum, area_checksum(sequence, control.size(), {content, words}));
    state_->control_sequence = sequence;
    return true;
}

void Ledger::close_in_order(Instant now) noexcept {
    UDPPROXY_ASSERT(is_possible(now));
    store(state_->at<RecordedHeader>(0)->closed_at,
          static_cast<std::uint64_t>(now.time_since_epoch().count()) + 1);
}

Ledger::Found Ledger::read(std::uint32_t shard, std::uint32_t group, GroupRecord& record) const {
    UDPPROXY_ASSERT(shard < size().shards && group < size().groups_per_shard);
    const auto bytes = state_->copy<RecordedGroup>(group_offset(size(), shard, group));
    if (bytes.checksum == static_cast<std::uint64_t>(Mark::free)) return Found::free;
    const std::optional<GroupRecord> found = believed(bytes, shard, group);
    if (!found) return Found::torn;
    record = *found;
    return Found::whole;
}

std::uint32_t Ledger::high_water(std::uint32_t shard) const noexcept {
    UDPPROXY_ASSERT(shard < size().shards && !state_->is_written_here());
    const std::size_t begin = group_offset(size(), shard, 0);
    const std::size_t end = begin + shard_bytes(size());
    // The last part with memory that begins before the shard's end.
    const auto next = std::lower_bound(
        state_->extents.begin(), state_->extents.end(), end,
        [](const Extent& extent, std::size_t value) { return extent.begin < value; });
    if (next == state_->extents.begin()) return 0;
    const std::size_t last = std::min(std::prev(next)->end, end);
    if (last <= begin) return 0;
    const std::size_t groups = (last - begin) / sizeof(RecordedGroup);
    return std::min(static_cast<std::uint32_t>(groups), size().groups_per_shard);
}

Instant Ledger::rests_until(std::uint32_t pool, std::uint16_t port) const noexcept {
    UDPPROXY_ASSERT(pool < size().pools);
    const std::int64_t units = state_->copy<std::uint32_t>(rest_offset(size(), pool, port));
    if (units == 0) return Instant::min();
    return Instant{std::chrono::nanoseconds{units << rest_unit_shift}};
}

bool Ledger::has_rests(std::uint32_t pool) const noexcept {
    UDPPROXY_ASSERT(pool < size().pools && !state_->is_written_here());
    const std::size_t begin = rest_offset(size(), pool, 0);
    const auto next = std::upper_bound(
        state_->extents.begin(), state_->extents.end(), begin,
        [](std::size_t value, const Extent& extent) { return value < extent.end; });
    return next != state_->extents.end() && next->begin < rest_offset(size(), pool + 1, 0);
}

std::optional<ControlRecord> Ledger::control() const {
    std::array<RecordedArea, 2> areas{};
    for (unsigned i = 0; i < 2; ++i) areas[i] = state_->copy<RecordedArea>(area_offset(i));
    const unsigned newer = areas[1].sequence > areas[0].sequence ? 1 : 0;
    for (const unsigned i : {newer, 1 - newer}) {
        const RecordedArea& area = areas[i];
        const std::size_t offset = area_offset(i) + ledger_page_bytes;
        if (area.bytes > control_bytes_max || !state_->has_memory(offset, area.bytes)) continue;
        std::vector<std::uint64_t> words((area.bytes + 7) / 8);
        std::copy_n(state_->memory + offset, words.size() * sizeof(std::uint64_t),
                    reinterpret_cast<std::byte*>(words.data()));
        if (area.checksum != area_checksum(area.sequence, area.bytes, words)) continue;
        if (auto record = decoded(std::as_bytes(std::span{words}).first(area.bytes))) return record;
    }
    return std::nullopt;
}

std::optional<Instant> Ledger::closed_in_order() const noexcept {
    const std::uint64_t stored = state_->closed_at;
    if (stored == 0) return std::nullopt;
    const Instant at{std::chrono::nanoseconds{static_cast<std::int64_t>(stored - 1)}};
    return is_possible(at) ? std::optional{at} : std::nullopt;
}

}  // namespace udpproxy
