#include "threads.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>

namespace mlsel {
namespace {

// A thread that waits looks this often before it lets the kernel have the core: some 20 µs, the
// time between two sections of a step. Ranks that share cores must not spin for long.
constexpr int SPINS = 4000;

inline void pause()
{
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void wait_while(const std::atomic<unsigned> &value, unsigned old)
{
  for (int spin = 0; spin < SPINS; spin++) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}    // namespace

Team::Team(int n_threads) : n_threads_(std::max(1, n_threads))
{
  for (int thread = 1; thread < n_threads_; thread++)
    threads_.emplace_back([this, thread] { loop(thread); });
}

Team::~Team()
{
  stop_ = true;
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  for (std::thread &thread : threads_) thread.join();
}

void Team::loop(int thread)
{
  unsigned seen = 0;
  for (;;) {
    wait_while(started_, seen);
    ++seen;
    if (stop_) return;
    (*work_)(thread);
    barrier();
  }
}

void Team::run(const std::function<void(int)> &work)
{
  if (n_threads_ == 1) {
    work(0);
    return;
  }
  work_ = &work;
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  work(0);
  barrier();
}

void Team::barrier()
{
  if (n_threads_ == 1) return;
  const unsigned phase = phase_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<unsigned>(n_threads_)) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

int allowed_cores(unsigned long &fingerprint)
{
  cpu_set_t set;
  fingerprint = 14695981039346656037ul;
  if (sched_getaffinity(0, sizeof(set), &set) != 0)
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &set))
      fingerprint = (fingerprint ^ static_cast<unsigned>(cpu + 1)) * 1099511628211ul;
  return std::max(1, CPU_COUNT(&set));
}

int default_threads(int n_ranks_sharing)
{
  if (const char *given = std::getenv("OMP_NUM_THREADS")) {
    const int n = std::atoi(given);
    if (n > 0) return n;
  }
  unsigned long fingerprint = 0;
  return std::max(1, allowed_cores(fingerprint) / std::max(1, n_ranks_sharing));
}

}    // namespace mlsel
