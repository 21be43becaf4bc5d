// The load tool of the end-to-end tests: clients, services, floods and forged errors, each at a
// fixed rate and for a fixed time, with one line of JSON at the end. tests/e2e/harness/load.py
// starts it in the namespaces of a test.
#include <CLI/CLI.hpp>

#include "commands.hpp"
#include "traffic/program.hpp"

namespace {

using namespace udpproxy::traffic;

void add_serve(CLI::App& app, ServeOptions& options) {
    CLI::App& command = *app.add_subcommand("serve", "a service with several addresses");
    command.add_option("--at", options.at, "endpoints to listen on")->required();
    command.add_option("--answer-from", options.answer_from, "asked, turn, random, or an index");
    command.add_option("--replies", options.replies, "to each request");
    command.add_option("--reply-bytes-factor", options.reply_bytes_factor,
                       "a reply's length in lengths of its request");
    command.add_flag("--only-marked", options.only_marked, "silence to requests without a mark");
    command.add_option("--misdeliver-every", options.misdeliver_every,
                       "so many requests, one is answered to whoever asked before");
    command.add_option("--corrupt-every", options.corrupt_every,
                       "so many requests, one is answered with a wrong byte");
    command.add_option("--repeat-every", options.repeat_every,
                       "so many requests, one is answered twice");
    command.add_option("--seconds", options.seconds, "at most");
    command.callback([&options] { serve(options); });
}

void add_ask(CLI::App& app, AskOptions& options) {
    CLI::App& command = *app.add_subcommand("ask", "clients that stay");
    command.add_option("--from", options.from, "their addresses")->required();
    command.add_option("--to", options.to, "endpoints that they ask, in turn")->required();
    command.add_option("--clients", options.clients, "sockets")->check(CLI::PositiveNumber);
    command.add_option("--rate", options.rate,
                       "questions a second of all together; 0: as the window allows");
    command.add_option("--window", options.window, "open questions of one client; 0: any");
    command.add_option("--count", options.count, "questions at most; 0: any");
    command.add_option("--seconds", options.seconds, "of asking");
    command.add_option("--bytes", options.bytes, "lengths, in turn")->check(CLI::Range(48, 65527));
    command.add_option("--replies", options.replies, "wanted for each question")
        ->check(CLI::Range(1, 255));
    command.add_option("--empties", options.empties, "empty datagrams before each question");
    command.add_option("--patience", options.patience, "seconds for the last replies");
    command.add_flag("--warm", options.warm, "make every client assured first");
    command.callback([&options] { ask(options); });
}

void add_churn(CLI::App& app, ChurnOptions& options) {
    CLI::App& command = *app.add_subcommand("churn", "clients that ask once");
    command.add_option("--from", options.from, "their addresses")->required();
    command.add_option("--to", options.to, "the endpoint that they ask")->required();
    command.add_option("--rate", options.rate, "new clients a second");
    command.add_option("--seconds", options.seconds, "of asking");
    command.add_option("--bytes", options.bytes, "of a question")->check(CLI::Range(48, 65507));
    command.add_option("--patience", options.patience, "seconds until a question is lost");
    command.add_option("--linger", options.linger, "seconds that an answered client still listens");
    command.add_option("--first-port", options.first_port, "of the clients, which go up from here");
    command.callback([&options] { churn(options); });
}

void add_spoof(CLI::App& app, SpoofOptions& options) {
    CLI::App& command = *app.add_subcommand("spoof", "a flood with forged sources");
    command.add_option("--to", options.to, "the endpoint")->required();
    command.add_option("--prefix", options.prefix, "of the sources")->required();
    command.add_option("--first-port", options.first_port, "of the sources");
    command.add_option("--last-port", options.last_port, "of the sources");
    command.add_option("--rate", options.rate, "a second; 0: as many as can be");
    command.add_option("--seconds", options.seconds, "at most");
    command.add_option("--count", options.count, "datagrams at most; 0: any");
    command.add_option("--bytes", options.bytes, "of a payload")->check(CLI::Range(0, 1400));
    command.add_option("--seed", options.seed, "of the dice");
    command.callback([&options] { spoof(options); });
}

void add_icmp(CLI::App& app, IcmpOptions& options) {
    CLI::App& command = *app.add_subcommand("icmp", "forged ICMP of every type and code");
    command
        .add_option("--about-from", options.about_from,
                    "the endpoint that is told, as sender of what is quoted")
        ->required();
    command.add_option("--about-to", options.about_to, "the endpoint that it wrote to")->required();
    command.add_option("--from-ports", options.from_ports, "so many in a row")
        ->check(CLI::PositiveNumber);
    command.add_option("--to-ports", options.to_ports, "so many in a row")
        ->check(CLI::PositiveNumber);
    command.add_option("--teller", options.teller,
                       "the address that tells; else that of --about-to");
    command.add_option("--rate", options.rate, "a second");
    command.add_option("--seconds", options.seconds, "at most");
    command.add_option("--count", options.count, "messages at most; 0: any");
    command.add_option("--seed", options.seed, "of the dice");
    command.callback([&options] { icmp(options); });
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"real load for udpproxy's end-to-end tests"};
    app.require_subcommand(1);
    ServeOptions of_serve;
    AskOptions of_ask;
    ChurnOptions of_churn;
    SpoofOptions of_spoof;
    IcmpOptions of_icmp;
    add_serve(app, of_serve);
    add_ask(app, of_ask);
    add_churn(app, of_churn);
    add_spoof(app, of_spoof);
    add_icmp(app, of_icmp);
    return run_program(app, argc, argv);
}
