// In which order a socket's sends leave, and what follows a failure. One sendmmsg carries up to 64
// sends of one socket, its departures in their order; a single send is a plain send.
#include "sender.hpp"

#include <cerrno>

namespace udpproxy {

namespace {

/// Stretches of a departure that are lost under one error each, besides its retries and its
/// send_no_space fault. Any further stretch is counted with one of them.
constexpr std::size_t stretches_per_departure = 4;

}  // namespace

Sender::Sender(SlotTable& slots, EngineCounters& counters, std::size_t departures_max)
    : table_(slots),
      counters_(counters),
      chains_(departures_max, slots.slots_max()),
      faults_((stretches_per_departure + 2) * departures_max),
      without_space_(departures_max),
      outgoing_{} {}

void Sender::begin(std::span<const Departure> departures, Instant now) {
    departures_ = departures;
    now_ = now;
    faults_.clear();
    without_space_.clear();
    chains_.chain(departures);
}

Sending Sender::cut(Slot slot, ChainWalk& walk) {
    const SlotEntry& entry = table_[slot];
    const Sending sending = chains_.cut(departures_, walk, [&](const Departure& departure) {
        TrainLimits limits{train_bytes_max(entry.family), entry.offload ? 65535U : 0U};
        if (entry.limited)
            limits.segment_bytes =
                std::min(limits.segment_bytes,
                         limits_.find(slot, departure.to.address, now_).value_or(65535));
        return limits;
    });
    // The count is taken back if the send does not leave as a train.
    if (sending.is_train()) ++counters_.trains_sent;
    return sending;
}

std::size_t Sender::write_parts(const Sending& sending, iovec* parts) const noexcept {
    std::uint32_t departure = sending.first;
    if (sending.departures == 1) {
        parts[0] = iovec{const_cast<std::byte*>(departures_[departure].payload) + sending.offset,
                         sending.bytes};
        return 1;
    }
    for (std::size_t i = 0; i < sending.departures; ++i, departure = chains_.next(departure))
        parts[i] = iovec{const_cast<std::byte*>(departures_[departure].payload),
                         departures_[departure].bytes};
    return sending.departures;
}

void Sender::send_chain(Slot slot, std::span<const Sending> head, ChainWalk& walk) {
    const Family family = table_[slot].family;
    int held_up = 0;
    while (held_up == 0) {
        std::size_t count = 0;
        std::size_t parts = 0;
        while (count < sends_per_call && parts_.size() - parts >= train_segments_max &&
               take_next(slot, head, walk, sendings_[count])) {
            const Sending& sending = sendings_[count];
            const std::size_t taken = write_parts(sending, &parts_[parts]);
            write_outgoing(departures_[sending.first], sending,
                           std::span{parts_}.subspan(parts, taken), family, outgoing_[count]);
            messages_[count].msg_hdr = outgoing_[count].header;
            parts += taken;
            ++count;
        }
        if (count == 0) return;
        held_up = send_messages(slot, count);
    }
    for (Sending left; take_next(slot, head, walk, left);) keep(slot, left, held_up);
}

/// The next send of the chain.
bool Sender::take_next(Slot slot, std::span<const Sending>& head, ChainWalk& walk,
                       Sending& sending) {
    if (!head.empty()) {
        sending = head.front();
        head = head.subspan(1);
        return true;
    }
    if (walk.is_over()) return false;
    sending = cut(slot, walk);
    return true;
}

int Sender::send_messages(Slot slot, std::size_t count) {
    // sendmmsg stops at the first failure. If an earlier send succeeded in the same call, the error
    // itself is lost and has been consumed (net/socket.c, __sys_sendmmsg). So the next call is the
    // failed send's second attempt.
    bool second_attempt = false;
    for (std::size_t at = 0; at < count;) {
        const Sending& sending = sendings_[at];
        const int sent = count - at == 1 ? send_last(slot, at) : send_many(slot, at, count);
        const bool is_connected = departures_[sending.first].to.port == 0;
        if (sent > 0) {
            if (second_attempt && is_connected) note_all(FaultKind::send_retry, 0, slot, sending);
            at += static_cast<std::size_t>(sent);
            second_attempt = true;
        } else if (!second_attempt && is_connected && may_be_pending_error(errno)) {
            second_attempt = true;
        } else {
            const int held_up = give_up(slot, sending, errno);
            ++at;
            second_attempt = false;
            if (held_up == 0) continue;
            for (; at < count; ++at) keep(slot, sendings_[at], held_up);
            return held_up;
        }
    }
    return 0;
}

int Sender::send_many(Slot slot, std::size_t at, std::size_t count) {
    return ::sendmmsg(table_[slot].descriptor, &messages_[at], static_cast<unsigned>(count - at),
                      MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// The usual case of many clients is one datagram each in a turn: send() spares the kernel three
/// copies from user space.
int Sender::send_last(Slot slot, std::size_t at) {
    const Sending& sending = sendings_[at];
    if (needs_message(departures_[sending.first], sending)) return send_many(slot, at, at + 1);
    const iovec& payload = messages_[at].msg_hdr.msg_iov[0];
    return ::send(table_[slot].descriptor, payload.iov_base, payload.iov_len,
                  MSG_DONTWAIT | MSG_NOSIGNAL) >= 0
               ? 1
               : -1;
}

void Sender::settle(Slot slot, const Sending& sending, int error) {
    if (departures_[sending.first].to.port == 0 && may_be_pending_error(error)) {
        error = attempt(slot, sending);
        if (error == 0) {
            note_all(FaultKind::send_retry, 0, slot, sending);
            return;
        }
    }
    (void)give_up(slot, sending, error);  // later sends have been tried already
}

/// The final failure of a send: its departures are kept (no space), sent singly (a train that the
/// kernel refuses to cut), or lost with a fault.
int Sender::give_up(Slot slot, const Sending& sending, int error) {
    if (means_no_space(error)) {
        keep(slot, sending, error);
        return error;
    }
    if (sending.is_train()) --counters_.trains_sent;
    if (sending.is_train() && may_refuse_trains(error)) return send_singly(slot, sending, error);
    note_all(FaultKind::send, error, slot, sending);
    return 0;
}

int Sender::send_singly(Slot slot, const Sending& sending, int refusal) {
    ++counters_.gso_fallbacks;
    bool singles_left = false;
    int held_up = 0;
    std::uint32_t departure = sending.first;
    for (std::uint32_t i = 0; i < sending.departures; ++i, departure = chains_.next(departure)) {
        const std::uint32_t end =
            sending.departures == 1 ? sending.offset + sending.bytes : departures_[departure].bytes;
        for (std::uint32_t offset = sending.offset; offset < end; offset += sending.segment_bytes) {
            const int error = held_up == 0
                                  ? send_segment(slot, departure, offset,
                                                 std::min(sending.segment_bytes, end - offset))
                                  : held_up;
            singles_left |= error == 0;
            if (!means_no_space(error)) continue;
            keep_from(slot, departure, offset, error);
            held_up = error;
            break;
        }
    }
    remember(slot, sending, refusal, singles_left);
    return held_up;
}

/// Sends one segment, with a second attempt if need be. Returns 0 or errno, and notes the fault
/// unless the error means no room.
int Sender::send_segment(Slot slot, std::uint32_t departure, std::uint32_t offset,
                         std::uint32_t bytes) {
    const Sending single{departure, 1, offset, bytes, 0};
    int error = attempt(slot, single);
    if (error != 0 && departures_[departure].to.port == 0 && may_be_pending_error(error)) {
        error = attempt(slot, single);
        if (error == 0) note(Fault{FaultKind::send_retry, 0, slot, departure, 1, bytes, offset});
    }
    if (error != 0 && !means_no_space(error))
        note(Fault{FaultKind::send, error, slot, departure, 1, bytes, offset});
    return error;
}

void Sender::keep(Slot slot, const Sending& sending, int error) {
    if (sending.is_train()) --counters_.trains_sent;
    std::uint32_t departure = sending.first;
    for (std::uint32_t i = 0; i < sending.departures; ++i, departure = chains_.next(departure))
        if (!keeps(departure)) keep_from(slot, departure, sending.offset, error);
}

/// Keeps the departure from `offset` to its end.
void Sender::keep_from(Slot slot, std::uint32_t departure, std::uint32_t offset, int error) {
    const std::uint32_t bytes = departures_[departure].bytes - offset;
    without_space_.insert(departure);
    faults_.push(Fault{FaultKind::send_no_space, error, slot, departure,
                       segments_of(bytes, departures_[departure].segment_bytes), bytes, offset});
}

int Sender::attempt(Slot slot, const Sending& sending) {
    const SlotEntry& entry = table_[slot];
    std::array<iovec, train_segments_max> parts{};
    Outgoing outgoing{};
    const std::size_t taken = write_parts(sending, parts.data());
    write_outgoing(departures_[sending.first], sending, std::span{parts}.first(taken), entry.family,
                   outgoing);
    return ::sendmsg(entry.descriptor, &outgoing.header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ? 0
                                                                                           : errno;
}

/// A segment size that a path refuses in trains is not tried again for a while; a socket that takes
/// no trains at all is never tried with one again.
void Sender::remember(Slot slot, const Sending& sending, int error, bool singles_left) {
    SlotEntry& entry = table_[slot];
    // If nothing leaves either way, trains are not to blame (a blackhole route says EINVAL to
    // everything).
    if (!singles_left && error != EMSGSIZE) return;
    if (error == EIO || error == EOPNOTSUPP) {
        entry.offload = false;
        return;
    }
    entry.limited = true;
    limits_.learn(slot, departures_[sending.first].to.address, sending.segment_bytes - 1, now_);
}

/// Extends one of the departure's faults, or begins another.
void Sender::note(const Fault& fault) {
    Fault* earlier = nullptr;  // the last of the same error, else the first
    std::size_t noted = 0;
    // A departure's faults stand together: its sends are neighbours on its slot.
    for (std::size_t i = faults_.size(); i > 0 && faults_[i - 1].departure == fault.departure;
         --i) {
        if (faults_[i - 1].kind != fault.kind) continue;
        ++noted;
        if (earlier == nullptr || earlier->error != fault.error) earlier = &faults_[i - 1];
    }
    const bool adjoins =
        earlier != nullptr && earlier->error == fault.error &&
        (fault.kind == FaultKind::send_retry || earlier->offset + earlier->bytes == fault.offset);
    if (!adjoins && noted < stretches_per_departure) {
        faults_.push(fault);
        return;
    }
    earlier->datagrams += fault.datagrams;
    earlier->bytes += fault.bytes;
}

void Sender::note_all(FaultKind kind, int error, Slot slot, const Sending& sending) {
    if (sending.departures == 1) {
        note(Fault{kind, error, slot, sending.first, sending.datagrams(), sending.bytes,
                   sending.offset});
        return;
    }
    std::uint32_t departure = sending.first;
    for (std::uint32_t i = 0; i < sending.departures; ++i, departure = chains_.next(departure))
        note(Fault{kind, error, slot, departure, departures_[departure].datagrams(),
                   departures_[departure].bytes, 0});
}

}  // namespace udpproxy
