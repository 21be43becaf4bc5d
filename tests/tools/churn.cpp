// Clients that ask once, as DNS clients do: each question comes from a port that asked nothing
// before.
#include <deque>
#include <random>

#include "commands.hpp"
#include "ledger.hpp"
#include "outcome.hpp"
#include "rows.hpp"
#include "traffic/pace.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"

namespace udpproxy::traffic {

namespace {

constexpr Duration look_every = std::chrono::milliseconds{20};
constexpr std::uint32_t sends_per_pass = 32;

class Churn {
public:
    explicit Churn(const ChurnOptions& options)
        : options_(options),
          asks_(wanted(parse_endpoint(options.to))),
          beginning_(monotonic_now()),
          ledger_(beginning_, 1) {
        for (const std::string& from : options.from)
            sources_.push_back(Endpoint{wanted(parse_address(from)), 0, options.first_port});
    }
    void run();

private:
    struct Client {
        Socket socket;
        ClientBook book;
        Instant asked_at{};
        Instant answered_at{};
    };

    Socket open_next();
    void ask_one(Instant now);
    void receive(Duration wait);
    void retire(Instant now, bool all);

    const ChurnOptions& options_;
    Endpoint asks_;
    std::vector<Endpoint> sources_;
    std::size_t next_source_ = 0;
    Instant beginning_;
    Ledger ledger_;
    Readiness readiness_;
    Inbox inbox_;
    std::deque<Client> clients_;
    std::uint32_t first_number_ = 0;  // of the client at the front
    std::mt19937_64 dice_{std::random_device{}()};
    std::vector<std::byte> payload_ = std::vector<std::byte>(datagram_bytes_max);
};

/// The next port of the next source address; ports that somebody has are passed over.
Socket Churn::open_next() {
    for (int tried = 0; tried < 1000; ++tried) {
        Endpoint& source = sources_[next_source_++ % sources_.size()];
        const Endpoint here = source;
        source.port = source.port == 65535 ? options_.first_port
                                           : static_cast<std::uint16_t>(source.port + 1);
        if (Socket opened = open_udp_unless_taken(here, roomy(64 << 10))) return opened;
    }
    throw std::runtime_error("churn: no free port in a row of 1000");
}

void Churn::ask_one(Instant now) {
    Client& client = clients_.emplace_back();
    client.socket = open_next();
    client.book.nonce = dice_();
    client.asked_at = now;
    readiness_.add(client.socket.descriptor(),
                   first_number_ + static_cast<std::uint32_t>(clients_.size() - 1));
    Mark mark;
    mark.client = client.book.nonce;
    mark.sequence = ledger_.ask(client.book, now);
    mark.sent_at = static_cast<std::uint64_t>(now.time_since_epoch().count());
    const std::span payload{payload_.data(), options_.bytes};
    write_mark(payload, mark);
    SocketName name{};
    const socklen_t length = write_socket_name(asks_, name);
    if (sendto(client.socket.descriptor(), payload.data(), payload.size(), MSG_DONTWAIT, &name.any,
               length) < 0)
        ledger_.take_back(client.book);
}

void Churn::receive(Duration wait) {
    for (const std::uint32_t number : readiness_.wait(wait)) {
        Client& client = clients_[number - first_number_];
        const std::size_t count = inbox_.receive(client.socket.descriptor());
        const Instant now = monotonic_now();
        for (std::size_t i = 0; i < count; ++i) {
            if (ledger_.take(client.book, inbox_.payload(i), inbox_.from(i), asks_, now))
                client.answered_at = now;
        }
    }
}

/// Closes those at the front that were answered a while ago or have waited too long.
void Churn::retire(Instant now, bool all) {
    while (!clients_.empty()) {
        const Client& oldest = clients_.front();
        const bool answered = oldest.answered_at != Instant{};
        const bool over = answered ? now - oldest.answered_at > of_seconds(options_.linger)
                                   : now - oldest.asked_at > of_seconds(options_.patience);
        if (!over && !all) return;
        ledger_.close(oldest.book);
        clients_.pop_front();
        ++first_number_;
    }
}

void Churn::run() {
    say({{"event", "ready"}});
    const Instant start = monotonic_now();
    const Instant end = start + of_seconds(options_.seconds);
    Pace pace(options_.rate, start);
    Instant now = start;
    while (now < end && !stop_wanted()) {
        for (std::uint32_t due = pace.due(now, sends_per_pass); due > 0; --due) ask_one(now);
        receive(std::min(pace.until_next(monotonic_now()), look_every));
        now = monotonic_now();
        retire(now, false);
    }
    const Instant ended = now;
    while (now < ended + of_seconds(options_.patience) && ledger_.unanswered() > 0) {
        receive(look_every);
        now = monotonic_now();
    }
    retire(now, true);
    nlohmann::ordered_json report{
        {"event", "churned"}, {"seconds", std::chrono::duration<double>(ended - start).count()}};
    report.update(ledger_.report());
    say(report);
}

}  // namespace

void churn(const ChurnOptions& options) { Churn(options).run(); }

}  // namespace udpproxy::traffic
