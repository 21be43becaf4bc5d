// A service with several addresses: it answers each marked question with its own marked replies,
// from the address it was told to, and echoes what bears no mark.
#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <unordered_map>

#include "commands.hpp"
#include "outcome.hpp"
#include "rows.hpp"
#include "traffic/mark.hpp"
#include "traffic/pace.hpp"
#include "traffic/program.hpp"
#include "traffic/sockets.hpp"

namespace udpproxy::traffic {

namespace {

constexpr Duration look_every = std::chrono::milliseconds{50};

struct SenderHash {
    std::size_t operator()(const Endpoint& endpoint) const noexcept {
        std::uint64_t low = 0;
        std::memcpy(&low, endpoint.address.bytes.data() + 8, sizeof(low));
        return (low ^ (std::uint64_t{endpoint.port} << 24U)) * 0x9e3779b97f4a7c15ULL;
    }
};

class Server {
public:
    explicit Server(const ServeOptions& options);
    void run();

private:
    void receive(std::uint32_t asked);
    void answer(std::uint32_t asked, std::span<const std::byte> request, const Endpoint& sender);
    void reply(std::uint32_t asked, std::span<const std::byte> request, std::optional<Mark> mark,
               std::uint32_t copy, const Endpoint& to);
    [[nodiscard]] bool is_nth(std::uint64_t every) const {
        return every != 0 && requests_ % every == 0;
    }
    [[nodiscard]] std::uint32_t choose(std::uint32_t asked);
    [[nodiscard]] std::span<std::byte> room_for(std::size_t bytes);
    void send_all();

    const ServeOptions& options_;
    std::vector<Socket> sockets_;
    std::vector<std::unique_ptr<Outbox>> outboxes_;
    Readiness readiness_;
    Inbox inbox_;
    std::vector<std::byte> arena_ = std::vector<std::byte>(8 << 20);
    std::size_t arena_used_ = 0;
    std::uint32_t turn_ = 0;
    Endpoint before_;
    std::mt19937 dice_{std::random_device{}()};
    std::unordered_map<Endpoint, std::uint64_t, SenderHash> client_of_;
    std::uint64_t requests_ = 0, marked_ = 0, empties_ = 0, switched_ = 0, replies_ = 0;
};

Server::Server(const ServeOptions& options) : options_(options) {
    for (const std::string& endpoint : options.at) {
        sockets_.push_back(open_udp(wanted(parse_endpoint(endpoint)), roomy(16 << 20)));
        outboxes_.push_back(std::make_unique<Outbox>());
        readiness_.add(sockets_.back().descriptor(),
                       static_cast<std::uint32_t>(sockets_.size() - 1));
    }
}

std::uint32_t Server::choose(std::uint32_t asked) {
    const auto count = static_cast<std::uint32_t>(sockets_.size());
    if (options_.answer_from == "asked") return asked;
    if (options_.answer_from == "turn") return turn_++ % count;
    if (options_.answer_from == "random") return static_cast<std::uint32_t>(dice_() % count);
    return static_cast<std::uint32_t>(std::stoul(options_.answer_from)) % count;
}

std::span<std::byte> Server::room_for(std::size_t bytes) {
    if (arena_used_ + bytes > arena_.size()) send_all();
    const std::span<std::byte> room{arena_.data() + arena_used_, bytes};
    arena_used_ += bytes;
    return room;
}

void Server::send_all() {
    for (std::size_t i = 0; i < sockets_.size(); ++i)
        if (!outboxes_[i]->empty()) replies_ += outboxes_[i]->flush(sockets_[i].descriptor());
    arena_used_ = 0;
}

void Server::answer(std::uint32_t asked, std::span<const std::byte> request,
                    const Endpoint& sender) {
    ++requests_;
    if (request.empty()) ++empties_;
    const std::optional<Mark> mark = read_mark(request);
    if (mark && mark->kind == Kind::request) {
        ++marked_;
        const auto [place, is_new] = client_of_.try_emplace(sender, mark->client);
        if (!is_new && place->second != mark->client) {
            ++switched_;
            place->second = mark->client;
        }
    } else if (options_.only_marked && !request.empty()) {
        return;
    }
    const std::uint32_t copies = options_.replies * (is_nth(options_.repeat_every) ? 2 : 1);
    for (std::uint32_t copy = 0; copy < copies; ++copy)
        reply(asked, request, mark, copy, is_nth(options_.misdeliver_every) ? before_ : sender);
    before_ = sender;
}

void Server::reply(std::uint32_t asked, std::span<const std::byte> request,
                   std::optional<Mark> mark, std::uint32_t copy, const Endpoint& to) {
    const std::uint32_t via = choose(asked);
    const std::span<std::byte> payload =
        room_for(std::min<std::size_t>(request.size() * options_.reply_bytes_factor, 65507));
    if (mark) {
        mark->kind = Kind::reply;
        mark->via = static_cast<std::uint8_t>(via);
        mark->copy = static_cast<std::uint16_t>(copy);
        write_mark(payload, *mark);
    } else {
        for (std::size_t at = 0; at < payload.size(); at += request.size())
            std::copy_n(request.begin(), std::min(request.size(), payload.size() - at),
                        payload.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (!payload.empty() && is_nth(options_.corrupt_every)) payload.back() ^= std::byte{1};
    outboxes_[via]->add(payload, to);
    if (outboxes_[via]->full()) replies_ += outboxes_[via]->flush(sockets_[via].descriptor());
}

void Server::receive(std::uint32_t asked) {
    const std::size_t count = inbox_.receive(sockets_[asked].descriptor());
    for (std::size_t i = 0; i < count; ++i) answer(asked, inbox_.payload(i), inbox_.from(i));
    send_all();
}

void Server::run() {
    say({{"event", "ready"}});
    const Instant end = monotonic_now() + of_seconds(options_.seconds);
    while (!stop_wanted() && monotonic_now() < end) {
        for (const std::uint32_t asked : readiness_.wait(look_every)) receive(asked);
    }
    say({{"event", "served"},
         {"requests", requests_},
         {"marked", marked_},
         {"empties", empties_},
         {"senders", client_of_.size()},
         {"switched", switched_},
         {"replies", replies_}});
}

}  // namespace

void serve(const ServeOptions& options) { Server(options).run(); }

}  // namespace udpproxy::traffic
