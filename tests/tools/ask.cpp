// Clients that stay: some sockets, each with its own random nonce, ask at a fixed rate; every reply
// is held against who asked, what, and whom.
#include <algorithm>
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

constexpr Duration look_every = std::chrono::milliseconds{50};
constexpr std::uint32_t sends_per_pass = 64;
constexpr Duration warm_round_max = std::chrono::seconds{8};
constexpr Duration warm_again_after = std::chrono::milliseconds{300};

class Askers {
public:
    explicit Askers(const AskOptions& options);
    void run();

private:
    struct Client {
        Socket socket;
        Endpoint asks;
        ClientBook book;
        std::uint32_t open = 0;
        Instant last_at{};
    };

    bool send_one(Client& client, Ledger& ledger, Instant now);
    void receive(Ledger& ledger, Duration wait);
    void warm_up(Instant beginning);
    std::size_t unanswered_of_round(std::vector<std::uint64_t>& round) const;
    void send_due(Pace& pace, Ledger& ledger, Instant now);

    const AskOptions& options_;
    std::vector<Client> clients_;
    Readiness readiness_;
    Inbox inbox_;
    std::vector<std::byte> payload_ = std::vector<std::byte>(datagram_bytes_max);
    std::size_t next_client_ = 0, next_size_ = 0;
    std::uint64_t asked_ = 0, empties_ = 0;
};

Askers::Askers(const AskOptions& options) : options_(options) {
    std::random_device dice;
    for (std::uint32_t i = 0; i < options.clients; ++i) {
        Client& client = clients_.emplace_back();
        client.socket = open_udp(
            Endpoint{wanted(parse_address(options.from[i % options.from.size()]))}, roomy(4 << 20));
        client.asks = wanted(parse_endpoint(options.to[i % options.to.size()]));
        client.book.nonce = (std::uint64_t{dice()} << 32U) | dice();
        readiness_.add(client.socket.descriptor(), i);
    }
}

bool Askers::send_one(Client& client, Ledger& ledger, Instant now) {
    SocketName name{};
    const socklen_t length = write_socket_name(client.asks, name);
    for (std::uint32_t i = 0; i < options_.empties; ++i)
        if (sendto(client.socket.descriptor(), nullptr, 0, MSG_DONTWAIT, &name.any, length) == 0)
            ++empties_;
    const std::span payload{payload_.data(), options_.bytes[next_size_++ % options_.bytes.size()]};
    Mark mark;
    mark.client = client.book.nonce;
    mark.sequence = ledger.ask(client.book, now);
    mark.sent_at = static_cast<std::uint64_t>(now.time_since_epoch().count());
    write_mark(payload, mark);
    client.last_at = now;
    if (sendto(client.socket.descriptor(), payload.data(), payload.size(), MSG_DONTWAIT, &name.any,
               length) < 0) {
        ledger.take_back(client.book);
        return false;
    }
    ++client.open;
    ++asked_;
    return true;
}

void Askers::receive(Ledger& ledger, Duration wait) {
    for (const std::uint32_t number : readiness_.wait(wait)) {
        Client& client = clients_[number];
        const std::size_t count = inbox_.receive(client.socket.descriptor());
        const Instant now = monotonic_now();
        for (std::size_t i = 0; i < count; ++i) {
            if (ledger.take(client.book, inbox_.payload(i), inbox_.from(i), client.asks, now) &&
                client.open > 0)
                --client.open;
        }
    }
}

/// Each client asks until it was answered, twice: then it is assured.
void Askers::warm_up(Instant beginning) {
    for (int round = 0; round < 2; ++round) {
        Ledger ledger(beginning, options_.replies);
        const Instant end = monotonic_now() + warm_round_max;
        for (Client& client : clients_) {
            client.book.counted_from = client.book.replies.size();
            client.last_at = Instant{};
        }
        std::size_t left = clients_.size();
        while (left > 0 && monotonic_now() < end && !stop_wanted()) {
            left = 0;
            std::uint32_t sent = 0;
            for (Client& client : clients_) {
                const auto first = client.book.replies.begin() +
                                   static_cast<std::ptrdiff_t>(client.book.counted_from);
                if (std::any_of(first, client.book.replies.end(),
                                [](std::uint8_t count) { return count > 0; }))
                    continue;
                ++left;
                if (sent < sends_per_pass && monotonic_now() - client.last_at > warm_again_after) {
                    send_one(client, ledger, monotonic_now());
                    ++sent;
                }
            }
            receive(ledger, std::chrono::milliseconds{1});
        }
        if (left > 0)
            throw std::runtime_error("warming up: " + std::to_string(left) +
                                     " clients have no answer");
    }
    for (Client& client : clients_) {
        client.book.counted_from = client.book.replies.size();
        client.open = 0;
    }
    asked_ = empties_ = 0;
}

void Askers::send_due(Pace& pace, Ledger& ledger, Instant now) {
    const std::uint64_t left =
        options_.count == 0 ? sends_per_pass : options_.count - std::min(options_.count, asked_);
    std::uint32_t due =
        pace.due(now, static_cast<std::uint32_t>(std::min<std::uint64_t>(sends_per_pass, left)));
    for (std::size_t looked = 0; due > 0 && looked < clients_.size();) {
        Client& client = clients_[next_client_++ % clients_.size()];
        if (options_.window != 0 && client.open >= options_.window) {
            // A question that is lost must not stop its client for good.
            if (now - client.last_at > of_seconds(options_.patience)) client.open = 0;
            ++looked;
            continue;
        }
        looked = 0;
        send_one(client, ledger, now);
        --due;
    }
}

void Askers::run() {
    const Instant beginning = monotonic_now();
    say({{"event", "ready"}});
    if (options_.warm) warm_up(beginning);
    Ledger ledger(beginning, options_.replies);
    const Instant start = monotonic_now();
    say({{"event", "asking"}});
    const Instant end = start + of_seconds(options_.seconds);
    Pace pace(options_.rate, start);
    Instant now = start;
    while (now < end && !stop_wanted() && (options_.count == 0 || asked_ < options_.count)) {
        send_due(pace, ledger, now);
        receive(ledger, options_.rate > 0 ? std::min(pace.until_next(monotonic_now()), look_every)
                                          : std::chrono::milliseconds{options_.window != 0});
        now = monotonic_now();
    }
    const Instant ended = now;
    while (now < ended + of_seconds(options_.patience)) {
        receive(ledger, look_every);
        now = monotonic_now();
        // Everything was answered: a moment more for what should not come.
        if (ledger.unanswered() == 0 && now > ended + 3 * look_every) break;
    }
    for (const Client& client : clients_) ledger.close(client.book);
    nlohmann::ordered_json report{{"event", "asked"},
                                  {"clients", clients_.size()},
                                  {"seconds", std::chrono::duration<double>(ended - start).count()},
                                  {"empties", empties_}};
    report.update(ledger.report());
    say(report);
}

}  // namespace

void ask(const AskOptions& options) { Askers(options).run(); }

}  // namespace udpproxy::traffic
