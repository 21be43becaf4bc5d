// What one program leaves to the next in a variable of the environment: read strictly, since
// anybody may have set it.
#include "keeper/inheritance.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <string>

namespace udpproxy {
namespace {

Inheritance example() {
    return {StartReason::undone,
            3,
            7,
            Instant{Duration{1'234'567'890'123}},
            9,
            0,
            {1, 2, 3, 4, 5, 6},
            "0.1.0+x",
            "/usr/bin/a program"};
}

TEST_CASE("an inheritance is read as it was written") {
    const auto read = read_inheritance(text_of(example()));
    REQUIRE(read);
    CHECK(read->reason == StartReason::undone);
    CHECK(read->ledger == 3);
    CHECK(read->old_program == 7);
    CHECK(read->ended_at == example().ended_at);
    CHECK(read->signal == 9);
    CHECK(read->exit_code == 0);
    CHECK(read->starts == example().starts);
    CHECK(read->version == "0.1.0+x");
    CHECK(read->path == "/usr/bin/a program");
}

TEST_CASE("no beginning of an inheritance is one, but for a shorter path") {
    const std::string text = text_of(example());
    const std::size_t path = text.find("/usr");
    for (std::size_t length = 0; length <= path; ++length) {
        CAPTURE(length);
        CHECK_FALSE(read_inheritance(text.substr(0, length)));
    }
    CHECK(read_inheritance(text.substr(0, path + 1)));
}

TEST_CASE("an inheritance that cannot be is refused") {
    const auto with = [](auto&& change) {
        Inheritance inheritance = example();
        change(inheritance);
        return read_inheritance(text_of(inheritance)).has_value();
    };
    CHECK(with([](Inheritance& each) { each.old_program = -1; }));
    CHECK_FALSE(with([](Inheritance& each) { each.old_program = 2; }));
    CHECK_FALSE(with([](Inheritance& each) { each.old_program = -2; }));
    CHECK_FALSE(with([](Inheritance& each) { each.old_program = each.ledger; }));
    CHECK_FALSE(with([](Inheritance& each) { each.ledger = -1; }));
    CHECK_FALSE(with([](Inheritance& each) { each.ledger = 1; }));
    CHECK_FALSE(with([](Inheritance& each) { each.reason = StartReason::crash; }));
    CHECK_FALSE(with([](Inheritance& each) { each.reason = StartReason{200}; }));
    CHECK_FALSE(with([](Inheritance& each) { each.version = ""; }));
    CHECK_FALSE(with([](Inheritance& each) { each.path = "bin/udpproxy"; }));
}

TEST_CASE("an inheritance of another process, or of another form, is none") {
    const std::string text = text_of(example());
    const std::string process = ' ' + std::to_string(::getpid()) + ' ';
    std::string others = text;
    others.replace(text.find(process), process.size(), " 1 ");
    CHECK_FALSE(read_inheritance(others));
    CHECK_FALSE(read_inheritance('2' + text.substr(1)));
    CHECK_FALSE(read_inheritance(' ' + text));
    CHECK_FALSE(read_inheritance('+' + text));
    CHECK_FALSE(read_inheritance(""));
}

}  // namespace
}  // namespace udpproxy
