// Numbers with a unit: durations, sizes, port ranges. addresses.cpp parses addresses in all their
// forms.
#include "udpproxy/config/values.hpp"

#include <fmt/format.h>

#include <array>
#include <limits>

#include "tree.hpp"

namespace udpproxy {

namespace {

struct Unit {
    std::string_view name;
    std::uint64_t factor;
};

constexpr std::array<Unit, 6> duration_units{{{"us", 1'000},
                                              {"ms", 1'000'000},
                                              {"s", 1'000'000'000},
                                              {"m", 60'000'000'000},
                                              {"h", 3'600'000'000'000},
                                              {"d", 86'400'000'000'000}}};
constexpr std::array<Unit, 4> size_units{
    {{"", 1}, {"KiB", 1U << 10}, {"MiB", 1U << 20}, {"GiB", 1U << 30}}};

struct Quantity {
    std::string_view digits;
    std::string_view unit;
};

Quantity split_quantity(std::string_view text) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    return {text.substr(0, digits), text.substr(digits)};
}

/// digits * factor, or the largest int64 if that is less. No key's bounds reach that far.
std::uint64_t multiply(std::string_view digits, std::uint64_t factor) {
    constexpr auto number_max =
        static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    std::uint64_t number = 0;
    for (const char digit : digits) {
        const auto value = static_cast<std::uint64_t>(digit - '0');
        if (number > (number_max - value) / 10) return number_max;
        number = number * 10 + value;
    }
    return number > number_max / factor ? number_max : number * factor;
}

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name) {
    for (const Unit& unit : units)
        if (unit.name == name) return &unit;
    return nullptr;
}

/// The runs of digits in the text.
std::vector<std::string_view> numbers_in(std::string_view text) {
    constexpr std::string_view digits = "0123456789";
    std::vector<std::string_view> numbers;
    for (std::size_t at = text.find_first_of(digits); at != std::string_view::npos;
         at = text.find_first_of(digits, at)) {
        const std::size_t end = std::min(text.find_first_not_of(digits, at), text.size());
        numbers.push_back(text.substr(at, end - at));
        at = end;
    }
    return numbers;
}

/// The number with the largest unit that leaves no remainder.
template <std::size_t N>
std::string format_quantity(std::uint64_t number, const std::array<Unit, N>& units) {
    const Unit* best = &units[0];
    for (const Unit& unit : units)
        if (number % unit.factor == 0) best = &unit;
    return fmt::format("{}{}", number / best->factor, best->name);
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
    const Quantity quantity = split_quantity(text);
    if (!quantity.digits.empty() && quantity.unit.empty())
        return Error{fmt::format(
            "{} has no unit; write one of us, ms, s, m, h and d behind the number, as in \"30s\"",
            in_quotes(text))};
    const Unit* unit = find_unit(duration_units, quantity.unit);
    if (unit == nullptr || quantity.digits.empty())
        return Error{fmt::format(
            "{} is not a duration; write a whole number and us, ms, s, m, h or d, as in \"30s\"",
            in_quotes(text))};
    return Duration{static_cast<Duration::rep>(multiply(quantity.digits, unit->factor))};
}

Result<std::uint64_t> parse_size(std::string_view text) {
    const Quantity quantity = split_quantity(text);
    const Unit* unit = find_unit(size_units, quantity.unit);
    if (unit == nullptr || quantity.digits.empty())
        return Error{fmt::format(
            "{} is not a size; write a whole number and KiB, MiB or GiB, as in \"4MiB\", or bytes",
            in_quotes(text))};
    return multiply(quantity.digits, unit->factor);
}

Result<PortRange> parse_port_range(std::string_view text) {
    const std::vector<std::string_view> numbers = numbers_in(text);
    const std::string plain =
        numbers.size() == 2 ? fmt::format("{}-{}", numbers[0], numbers[1]) : "";
    if (plain.empty() || plain != text) {
        const std::string right = plain.size() > 1 && plain.size() <= text.size() + 1
                                      ? fmt::format("write \"{}\"", plain)
                                      : "write the first and the last, as in \"20000-59999\"";
        return Error{fmt::format("{} is not a range of ports; {}", in_quotes(text), right)};
    }
    const Result<std::uint16_t> first = parse_port(numbers[0]);
    const Result<std::uint16_t> last = parse_port(numbers[1]);
    if (!first || !last)
        return Error{
            fmt::format("{}: {}", in_quotes(text), (first ? last : first).error().message)};
    if (*first > *last)
        return Error{fmt::format("{} ends before it begins; write \"{}-{}\"", in_quotes(text),
                                 *last, *first)};
    return PortRange{*first, *last};
}

std::string format_duration(Duration duration) {
    if (duration <= Duration::zero()) return "0s";
    return format_quantity(static_cast<std::uint64_t>(duration.count()), duration_units);
}

std::string format_size(std::uint64_t bytes) {
    return bytes == 0 ? "0" : format_quantity(bytes, size_units);
}

}  // namespace udpproxy
