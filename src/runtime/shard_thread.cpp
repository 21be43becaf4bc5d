// Implements a shard's thread once for both engines.
#include "udpproxy/runtime/shard_thread.hpp"

#include <pthread.h>
#include <unistd.h>

#include <ctime>
#include <system_error>
#include <type_traits>

#include "udpproxy/io/epoll.hpp"
#include "udpproxy/io/uring.hpp"

namespace udpproxy {

namespace {

template <Backend B>
class EngineThread final : public ShardThread {
public:
    EngineThread(ShardSetup setup, B backend) : loop_(std::move(setup), std::move(backend)) {}

    /// Waits for the thread without a limit. The daemon has had it end within one, or has ended the
    /// process.
    ~EngineThread() override {
        if (!thread_.joinable()) return;
        begin();
        // No more commands are posted: those that wait for room in the mailbox go before the stop.
        stop();
        while (!ended_.load(std::memory_order_acquire)) {
            post_waiting();
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        }
        thread_.join();
    }

    Result<void> start(std::optional<int> cpu, std::vector<ListenerSocket> listeners) override {
        Result<void> started = start_thread(cpu, std::move(listeners), nullptr);
        if (started) started = finish_start();
        if (started) begin();
        return started;
    }
    Result<void> start_adopting(std::optional<int> cpu, Adoption& adoption) override {
        return start_thread(cpu, {}, &adoption);
    }
    Result<void> finish_start() override {
        // No limit is needed: an engine's start() registers descriptors with the kernel, which
        // waits for nothing, and an exception on the way to the answer ends the process.
        Result<void> result = started_.get_future().get();
        if (!result) thread_.join();
        return result;
    }
    void begin() override {
        if (!std::exchange(has_begun_, true)) begin_.set_value();
    }
    void wake() override { loop_.wake(); }

    [[nodiscard]] Duration cpu_time() override {
        clockid_t clock = 0;
        timespec time{};
        if (!thread_.joinable() || ::pthread_getcpuclockid(thread_.native_handle(), &clock) != 0 ||
            ::clock_gettime(clock, &time) != 0)
            return Duration{};
        return std::chrono::seconds{time.tv_sec} + Duration{time.tv_nsec};
    }

    [[nodiscard]] bool has_ended() const override { return ended_.load(std::memory_order_acquire); }
    [[nodiscard]] std::uint64_t run_queue_delay_ns() const override {
        return has_ended()
                   ? final_delay_ns_.load(std::memory_order_relaxed)
                   : udpproxy::run_queue_delay_ns(thread_id_.load(std::memory_order_relaxed));
    }
    void join() override {
        if (thread_.joinable()) thread_.join();
    }
    [[nodiscard]] Shard& shard() override { return loop_.shard(); }

private:
    Result<void> start_thread(std::optional<int> cpu, std::vector<ListenerSocket> listeners,
                              Adoption* adoption) {
        ended_.store(false, std::memory_order_release);
        auto live = [this, cpu, adoption, sockets = std::move(listeners)]() mutable {
            ::pthread_setname_np(::pthread_self(),
                                 ("shard " + std::to_string(loop_.shard().setup.shard)).c_str());
            if (cpu) (void)pin_to_cpu(*cpu);  // a CPU gone offline leaves it unpinned
            const Result<void> result = loop_.start(std::move(sockets));
            const bool serves = result.has_value();
            if (serves && adoption != nullptr) loop_.adopt(*adoption);
            std::future<void> begins = begin_.get_future();
            started_.set_value(result);
            thread_id_.store(::gettid(), std::memory_order_relaxed);
            if (serves) {
                begins.get();
                loop_.run();
            }
            final_delay_ns_.store(udpproxy::run_queue_delay_ns(::gettid()),
                                  std::memory_order_relaxed);
            ended_.store(true, std::memory_order_release);
        };
        try {
            thread_ = std::thread(std::move(live));
        } catch (const std::system_error& failure) {
            ended_.store(true, std::memory_order_release);
            return Error{std::string{"thread: "} + failure.what(), failure.code().value()};
        }
        return {};
    }

    Loop<B> loop_;
    std::thread thread_;
    std::promise<Result<void>> started_;
    std::promise<void> begin_;
    bool has_begun_ = false;
    std::atomic<bool> ended_{true};
    std::atomic<int> thread_id_{0};
    std::atomic<std::uint64_t> final_delay_ns_{0};
};

template <Backend B>
Result<std::unique_ptr<ShardThread>> create_over(ShardSetup setup,
                                                 const EngineSetup& engine_setup) {
    Result<B> backend = B::open(engine_setup);
    if (!backend) return backend.error();
    return std::unique_ptr<ShardThread>(
        std::make_unique<EngineThread<B>>(std::move(setup), std::move(*backend)));
}

}  // namespace

static_assert(std::is_nothrow_copy_assignable_v<Command>, "posting to a mailbox never fails");

void ShardThread::send(std::list<Command> commands) noexcept {
    waiting_.splice(waiting_.end(), commands);
    post_waiting();
}

void ShardThread::post_waiting() noexcept {
    if (waiting_.empty()) return;
    while (!waiting_.empty() && shard().commands.post(waiting_.front())) waiting_.pop_front();
    wake();
}

Result<std::unique_ptr<ShardThread>> ShardThread::create(Engine engine, ShardSetup setup,
                                                         const EngineSetup& engine_setup) {
    if (engine == Engine::io_uring)
        return create_over<UringBackend>(std::move(setup), engine_setup);
    return create_over<EpollBackend>(std::move(setup), engine_setup);
}

}  // namespace udpproxy
