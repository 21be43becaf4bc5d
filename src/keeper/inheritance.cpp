// Written and read strictly: the variable may come from anybody.
#include "inheritance.hpp"

#include <unistd.h>

#include <charconv>
#include <cstdint>

namespace udpproxy {

namespace {

// Of the text; a program that would write another still reads and writes this one, to go back.
constexpr std::uint64_t form = 1;
constexpr int first_descriptor = 3;  // behind the standard streams

class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    /// Up to the next space.
    std::string_view word() {
        const std::size_t space = text_.find(' ');
        is_good_ = is_good_ && space != std::string_view::npos && space > 0;
        if (!is_good_) return {};
        const std::string_view word = text_.substr(0, space);
        text_.remove_prefix(space + 1);
        return word;
    }
    template <class Number>
    void number(Number& number) {
        const std::string_view digits = word();
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), number);
        is_good_ = is_good_ && error == std::errc{} && end == digits.data() + digits.size();
    }
    [[nodiscard]] std::string_view rest() const { return text_; }
    [[nodiscard]] bool is_good() const { return is_good_; }

private:
    std::string_view text_;
    bool is_good_ = true;
};

}  // namespace

std::string text_of(const Inheritance& inheritance) {
    std::string text;
    const auto add = [&](auto number) { text += std::to_string(number) + ' '; };
    add(form);
    add(::getpid());
    add(static_cast<int>(inheritance.reason));
    add(inheritance.ledger);
    add(inheritance.old_program);
    add(inheritance.ended_at.time_since_epoch().count());
    add(inheritance.signal);
    add(inheritance.exit_code);
    for (const std::uint64_t count : inheritance.starts) add(count);
    return text + inheritance.version + ' ' + inheritance.path;
}

std::optional<Inheritance> read_inheritance(std::string_view text) {
    Inheritance found;
    Reader reader(text);
    std::uint64_t form_found = 0;
    pid_t process = 0;
    int reason = 0;
    Duration::rep ended_at = 0;
    reader.number(form_found);
    reader.number(process);
    reader.number(reason);
    reader.number(found.ledger);
    reader.number(found.old_program);
    reader.number(ended_at);
    reader.number(found.signal);
    reader.number(found.exit_code);
    for (std::uint64_t& count : found.starts) reader.number(count);
    found.version = reader.word();
    found.path = reader.rest();
    found.reason = static_cast<StartReason>(reason);
    found.ended_at = Instant{Duration{ended_at}};
    const bool is_possible =
        form_found == form && process == ::getpid() &&
        (found.reason == StartReason::upgrade || found.reason == StartReason::undone) &&
        found.ledger >= first_descriptor &&
        (found.old_program >= first_descriptor || found.old_program == -1) &&
        found.ledger != found.old_program && found.path.starts_with('/');
    return reader.is_good() && is_possible ? std::optional{found} : std::nullopt;
}

}  // namespace udpproxy
