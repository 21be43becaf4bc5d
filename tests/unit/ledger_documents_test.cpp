// docs/ledger.md against the code: the places and widths of all fields, and the limits.
#include <algorithm>
#include <cstddef>
#include <functional>

#include "ledger/layout.hpp"
#include "source_tree.hpp"

namespace udpproxy {
namespace {

/// The cells of the rows behind a table's head, up to its end.
std::vector<std::vector<std::string>> rows_behind(const std::string& heading,
                                                  const std::string& head) {
    std::vector<std::vector<std::string>> rows;
    bool is_in_section = heading.empty();
    bool is_in_table = false;
    for (const std::string& line : lines_of(read_file(source_path("docs/ledger.md")))) {
        if (line.starts_with('#')) is_in_section = line == heading;
        const bool is_row = is_in_table && line.starts_with('|');
        if (is_row && !line.starts_with("|---")) {
            std::vector<std::string> cells;
            std::istringstream stream{line.substr(1)};
            for (std::string cell; std::getline(stream, cell, '|');) {
                const std::size_t first = cell.find_first_not_of(' ');
                const std::size_t last = cell.find_last_not_of(' ');
                cells.push_back(first == std::string::npos ? ""
                                                           : cell.substr(first, last - first + 1));
            }
            rows.push_back(cells);
        }
        is_in_table = is_row || (is_in_section && line == head);
    }
    return rows;
}

struct Field {
    std::string name;
    std::size_t from;
    std::size_t bytes;
};

#define FIELD(type, name) \
    Field { #name, offsetof(type, name), sizeof(type::name) }

/// The table has these fields, and they fill the type.
void check_fields(const std::string& heading, const std::vector<Field>& fields,
                  std::size_t bytes_all) {
    std::string expected;
    std::size_t end = 0;
    for (const Field& field : fields) {
        CHECK_MESSAGE(field.from == end, field.name);
        end = field.from + field.bytes;
        expected += "`" + field.name + "` " + std::to_string(field.from) + ' ' +
                    std::to_string(field.bytes) + '\n';
    }
    CHECK(end == bytes_all);
    std::string found;
    for (const auto& row : rows_behind(heading, "| field | from | bytes | meaning |")) {
        REQUIRE(row.size() == 4);
        found += row[0] + ' ' + row[1] + ' ' + row[2] + '\n';
    }
    CHECK(found == expected);
}

TEST_CASE("docs/ledger.md has every field where the code has it") {
    using Header = RecordedHeader;
    check_fields("### Header",
                 {FIELD(Header, magic), FIELD(Header, form), FIELD(Header, shards),
                  FIELD(Header, groups_per_shard), FIELD(Header, pools), FIELD(Header, boot),
                  FIELD(Header, spare), FIELD(Header, closed_at)},
                 sizeof(Header));
    using Group = RecordedGroup;
    check_fields("### Reply group", {FIELD(Group, checksum),
                                     FIELD(Group, binding),
                                     FIELD(Group, upstream_version),
                                     FIELD(Group, proxy),
                                     FIELD(Group, listener),
                                     FIELD(Group, members),
                                     FIELD(Group, has_open_member),
                                     FIELD(Group, has_session),
                                     FIELD(Group, replied),
                                     FIELD(Group, assured),
                                     FIELD(Group, spare),
                                     FIELD(Group, interface_index),
                                     FIELD(Group, local),
                                     FIELD(Group, cooling_since),
                                     FIELD(Group, descriptors),
                                     FIELD(Group, session_id),
                                     FIELD(Group, client),
                                     FIELD(Group, written_to),
                                     FIELD(Group, admitted_at),
                                     FIELD(Group, last_active_at),
                                     FIELD(Group, request_datagrams),
                                     FIELD(Group, request_bytes),
                                     FIELD(Group, reply_datagrams),
                                     FIELD(Group, reply_bytes),
                                     FIELD(Group, spare_end)},
                 sizeof(Group));
    using Area = RecordedArea;
    check_fields("### Control record",
                 {FIELD(Area, checksum), FIELD(Area, sequence), FIELD(Area, bytes)}, sizeof(Area));
}

TEST_CASE("docs/ledger.md has the number of the form") {
    const auto rows = rows_behind("### Header", "| field | from | bytes | meaning |");
    CHECK(std::count(rows.begin(), rows.end(),
                     std::vector<std::string>{"`form`", "8", "4", std::to_string(ledger_form)}) ==
          1);
}

TEST_CASE("docs/ledger.md has the parts of the file, and the limits, of the code") {
    const auto text = [](std::size_t number) { return std::to_string(number); };
    constexpr LedgerSize one{1, 1, 1};
    constexpr LedgerSize two{2, 17, 2};
    CHECK(sizeof(RecordedHeader) <= ledger_page_bytes);
    CHECK(shard_bytes(one) == 4096);
    CHECK(shard_bytes(two) == 8192);
    CHECK(rows_behind("## The file", "| from | bytes | what |") ==
          std::vector<std::vector<std::string>>{
              {"0", text(ledger_page_bytes), "header"},
              {text(area_offset(0)), text(area_bytes), "first copy of the control record"},
              {text(area_offset(1)), text(area_bytes), "second copy of the control record"},
              {text(group_offset(one, 0, 0)),
               "per shard: " + text(sizeof(RecordedGroup)) +
                   " for each group, up to a multiple of " + text(ledger_page_bytes),
               "reply groups"},
              {"behind them", "per pool: " + text(ledger_bytes(two) - rest_offset(two, 1, 0)),
               "ports that cool down"}});
    CHECK(rows_behind("## The file", "| limit | value |") ==
          std::vector<std::vector<std::string>>{
              {"shards", text(shards_recorded_max)},
              {"groups of a shard", text(groups_recorded_max)},
              {"port pools", text(pools_recorded_max)},
              {"members of a group", text(recorded_members_max)},
              {"bytes of the control record", text(Ledger::control_bytes_max)},
              {"greatest descriptor", text(descriptor_recorded_max)},
              {"latest time", text(static_cast<std::size_t>(instant_recorded_max_ns))}});
}

TEST_CASE("docs/ledger.md has the lengths of the control record's items") {
    const auto length = [](const ControlRecord& control) { return Ledger::encode(control).size(); };
    // What an item adds to its list, without its length.
    const auto added = [&](const std::function<void(ControlRecord&)>& add,
                           const ControlRecord& to = {}) {
        ControlRecord with = to;
        add(with);
        return std::to_string(length(with) - length(to) - 4);
    };
    ControlRecord filled;
    filled.proxies.resize(1);
    filled.versions.resize(1);
    filled.pools.resize(1);
    const std::vector<std::pair<std::string, std::string>> expected{
        {"record", std::to_string(length({}))},
        {"proxy", added([](auto& to) { to.proxies.resize(1); })},
        {"alias counter", added([](auto& to) { to.proxies[0].alias_counters.resize(1); }, filled)},
        {"version", added([](auto& to) { to.versions.resize(1); })},
        {"alias", added([](auto& to) { to.versions[0].aliases.resize(1); }, filled)},
        {"listener", added([](auto& to) { to.listeners.resize(1); })},
        {"binding", added([](auto& to) { to.bindings.resize(1); })},
        {"pool", added([](auto& to) { to.pools.resize(1); })},
        {"ports, range", added([](auto& to) { to.pools[0].ranges.resize(1); }, filled)}};
    const auto rows = rows_behind("### Control record", "| part | bytes | fields, in order |");
    REQUIRE(rows.size() == expected.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        CHECK(rows[i].at(0) == expected[i].first);
        CHECK_MESSAGE(rows[i].at(1) == expected[i].second, expected[i].first);
    }
}

}  // namespace
}  // namespace udpproxy
