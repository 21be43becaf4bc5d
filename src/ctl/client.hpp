// Sends requests to a running udpproxy over its admin socket. Every request is bounded in time (10
// s per read or write) and in the size of its answer.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "udpproxy/base/result.hpp"

namespace udpproxy::ctl {

using Json = nlohmann::ordered_json;
using Arguments = std::map<std::string, std::string>;  // empty values are left out

class Client {
public:
    explicit Client(std::string socket) : socket_(std::move(socket)) {}

    /// The body of the answer. Errors: why the program cannot be reached, or why it refused the
    /// request.
    [[nodiscard]] Result<std::string> text(const std::string& method, const std::string& path,
                                           const Arguments& arguments = {}) const;
    /// The same as JSON.
    [[nodiscard]] Result<Json> json(const std::string& method, const std::string& path,
                                    const Arguments& arguments = {}) const;

private:
    std::string socket_;
};

}  // namespace udpproxy::ctl
