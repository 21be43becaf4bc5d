// JsonText: JSON written straight into its text, in the order in which it is to stand there. A tree
// of nodes would take ten times the memory of a long listing, and nlohmann's allocates when it is
// destroyed: with no memory left that ends the program.
#pragma once

#include <concepts>
#include <string>
#include <string_view>
#include <utility>

namespace udpproxy {

/// Appends `text` as a JSON string: what a terminal would obey (is_obeyed()) is escaped, what is no
/// UTF-8 is replaced by U+FFFD.
void append_json_string(std::string& to, std::string_view text);

/// The caller sees to it that what it opens is closed, and that an object's values have keys.
class JsonText {
public:
    JsonText& begin_object() { return open('{'); }
    JsonText& end_object() { return close('}'); }
    JsonText& begin_array() { return open('['); }
    JsonText& end_array() { return close(']'); }
    /// Of the value that is written next.
    JsonText& key(std::string_view name);

    JsonText& value(std::string_view text);
    JsonText& value(const char* text) { return value(std::string_view{text}); }
    JsonText& value(const std::string& text) { return value(std::string_view{text}); }
    JsonText& value(bool flag) { return raw(flag ? "true" : "false"); }
    JsonText& value(double number);  // null: it is infinite or none
    template <std::integral T>
    JsonText& value(T number) {
        return raw(std::to_string(number));
    }
    JsonText& null() { return raw("null"); }
    /// A value that is JSON already.
    JsonText& raw(std::string_view json);

    template <class T>
    JsonText& member(std::string_view name, const T& its_value) {
        return key(name).value(its_value);
    }

    void reserve(std::size_t bytes) { text_.reserve(bytes); }
    /// The text, with a line's end.
    [[nodiscard]] std::string take() {
        text_ += '\n';
        return std::move(text_);
    }

private:
    JsonText& open(char bracket);
    JsonText& close(char bracket);
    /// What is written next is another one, unless it is the first or has a key.
    void separate();

    std::string text_;
};

}  // namespace udpproxy
