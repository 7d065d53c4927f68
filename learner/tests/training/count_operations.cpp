// Counts the operations that libtorch dispatches in this process. When it ends, writes a line "NAME ALL OUTERMOST" for each
// to the file that OPERATIONS names. Outermost are those that no other operation dispatched: the program's own calls and
// the nodes of backward passes. The others depend on the processor.

#include <ATen/record_function.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace {

std::mutex mutex;

struct Count {
  uint64_t all = 0;
  uint64_t outermost = 0;
};

std::map<std::string, Count>& counts() {
  // Never destroyed: threads of libtorch may outlive this library's other objects.
  static auto* counts = new std::map<std::string, Count>;
  return *counts;
}

thread_local int depth = 0;

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& operation) {
  const std::lock_guard<std::mutex> lock(mutex);
  Count& count = counts()[operation.name()];
  ++count.all;
  if (depth++ == 0) ++count.outermost;
  return nullptr;
}

void end(const at::RecordFunction&, at::ObserverContext*) { --depth; }

struct Counter {
  Counter() {
    at::addGlobalCallback(at::RecordFunctionCallback(begin, end).scopes(
        {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION}));
  }

  ~Counter() {
    const char* file = std::getenv("OPERATIONS");
    if (file == nullptr) return;
    std::ofstream out(file);
    const std::lock_guard<std::mutex> lock(mutex);
    for (const auto& [name, count] : counts())
      out << name << ' ' << count.all << ' ' << count.outermost << '\n';
  }
};

const Counter counter;

}  // namespace
