// Sends requests to a running udpproxy over its admin socket. Every request is bounded in time and
// in the size of its answer.
#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "udpproxy/base/result.hpp"

namespace udpproxy::ctl {

using Json = nlohmann::ordered_json;
using Arguments = std::map<std::string, std::string>;  // empty values are left out

class Client {
public:
    /// `patience`: for each read or write.
    explicit Client(std::string socket, std::chrono::seconds patience = std::chrono::seconds{10})
        : socket_(std::move(socket)), patience_(patience) {}

    /// The body of the answer. Errors: why the program cannot be reached, or why it refused the
    /// request.
    [[nodiscard]] Result<std::string> text(const std::string& method, const std::string& path,
                                           const Arguments& arguments = {}) const;
    /// The same as JSON.
    [[nodiscard]] Result<Json> json(const std::string& method, const std::string& path,
                                    const Arguments& arguments = {}) const;

private:
    std::string socket_;
    std::chrono::seconds patience_;
};

}  // namespace udpproxy::ctl
