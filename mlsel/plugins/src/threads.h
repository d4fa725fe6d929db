// A team of threads for many short parallel sections: a step of a small model takes a millisecond
// and has some twenty of them. Independent of OpenMP, of which a process with LAMMPS, torch and
// OpenBLAS has several.
#ifndef MLSEL_THREADS_H
#define MLSEL_THREADS_H

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace mlsel {

class Team {
 public:
  explicit Team(int n_threads);
  ~Team();
  Team(const Team &) = delete;
  Team &operator=(const Team &) = delete;

  int size() const { return n_threads_; }

  /// Call work(thread) on every thread, the caller's among them, and wait until all are done.
  /// `work` must not throw.
  void run(const std::function<void(int)> &work);

  /// Inside `run`: wait until every thread is here.
  void barrier();

 private:
  void loop(int thread);

  const int n_threads_;
  std::vector<std::thread> threads_;
  const std::function<void(int)> *work_ = nullptr;
  std::atomic<unsigned> started_{0}, arrived_{0}, phase_{0};
  std::atomic<bool> stop_{false};
};

/// Cores for this process where `n_ranks_sharing` processes use the same ones; OMP_NUM_THREADS if
/// it is set.
int default_threads(int n_ranks_sharing);

/// How many cores the process may run on, and a number that is the same for the same cores.
int allowed_cores(unsigned long &fingerprint);

}    // namespace mlsel
#endif
