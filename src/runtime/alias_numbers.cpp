// Gives new aliases numbers, and remembers those of aliases that have gone.
#include "alias_numbers.hpp"

#include <algorithm>

namespace udpproxy {

std::vector<std::uint8_t> number_aliases(ProxySlot& slot) {
    std::vector<AliasCounter> present;
    std::vector<bool> taken(reply_sources_max, false);
    taken[0] = true;  // by the upstream itself
    const auto is_of = [](const Alias& alias) {
        return [&alias](const AliasCounter& counter) {
            return counter.prefix == alias.prefix && counter.scope == alias.scope &&
                   counter.port == alias.port;
        };
    };
    for (const Alias& alias : slot.config.reply_aliases) {
        const auto known =
            std::find_if(slot.alias_counters.begin(), slot.alias_counters.end(), is_of(alias));
        present.push_back({alias.prefix, alias.scope, alias.port,
                           known == slot.alias_counters.end() ? std::uint8_t{0} : known->number});
        taken[present.back().number] = true;
    }
    std::vector<bool> remembered = taken;
    for (const AliasCounter& counter : slot.alias_counters) remembered[counter.number] = true;
    std::vector<std::uint8_t> numbers;
    for (AliasCounter& counter : present) {
        if (counter.number == 0) {
            auto free = std::find(remembered.begin(), remembered.end(), false);
            if (free == remembered.end())
                free = remembered.begin() +
                       (std::find(taken.begin(), taken.end(), false) - taken.begin());
            counter.number = static_cast<std::uint8_t>(free - remembered.begin());
            remembered[counter.number] = taken[counter.number] = true;
            std::erase_if(slot.alias_counters,
                          [&](const AliasCounter& each) { return each.number == counter.number; });
            slot.alias_counters.push_back(counter);
        }
        numbers.push_back(counter.number);
    }
    return numbers;
}

}  // namespace udpproxy
