// The evaluator for Python's ctypes; see mlsel/training/gap/evaluator.py.

#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <vector>

#include "gap_potential.h"
#include "quip_file.h"

namespace {

/// The potential, and what one thread needs to evaluate it.
struct Handle {
  mlsel::GapPotential potential;
  decltype(potential.workspace()) work = potential.workspace();
  mlsel::GapEnvironments block;
  std::mutex is_used;
  mlsel::GapFile file;
  bool has_variances = false;
  explicit Handle(const mlsel::GapFile &file) : potential(file), file(file) {}
};

/// Add what `totals` wants of n_atoms, all central; see mlsel_gap_evaluate.
void evaluate(Handle &handle, int n_atoms, const int *numbers, const int *first,
              const int *neighbours, const double *vectors, mlsel::GapTotals &totals)
{
  mlsel::each_block(handle.block, n_atoms, numbers, first, neighbours, vectors, [&] {
    handle.potential.evaluate(handle.block, numbers, *handle.work, totals);
  });
}

}    // namespace

extern "C" {

/// Null and a sentence's end in `message` if the file cannot be used; `is_damaged` tells why.
__attribute__((visibility("default"))) void *mlsel_gap_open(const char *path, char *message,
                                                            int size, int *is_damaged)
{
  *is_damaged = 0;
  try {
    const mlsel::QuipFile file = mlsel::read_quip_file(path);
    std::string left_out, reason;
    const std::string init = mlsel::quip_init_string(file, "", left_out);
    if (const auto gap = mlsel::our_part(file, init, reason)) return new Handle(*gap);
    std::snprintf(message, size, "%s", reason.c_str());
  } catch (const std::exception &error) {
    *is_damaged = 1;
    std::snprintf(message, size, "%s", error.what());
  }
  return nullptr;
}

__attribute__((visibility("default"))) void mlsel_gap_close(void *handle)
{
  delete static_cast<Handle *>(handle);
}

__attribute__((visibility("default"))) double mlsel_gap_cutoff(void *handle)
{
  return static_cast<Handle *>(handle)->potential.cutoff();
}

/// Neighbours of atom i are those from first[i] to first[i + 1]. Results are added to energies
/// (n_atoms), forces (n_atoms, 3) and virial (3, 3). Not 0: `message` says why not.
__attribute__((visibility("default"))) int mlsel_gap_evaluate(
    void *opened, int n_atoms, const int *numbers, const int *first, const int *neighbours,
    const double *vectors, double *energies, double *forces, double *virial, char *message,
    int size)
{
  try {
    auto &handle = *static_cast<Handle *>(opened);
    const std::lock_guard<std::mutex> lock(handle.is_used);
    mlsel::GapTotals totals;
    totals.energies = energies;
    totals.forces = forces;
    evaluate(handle, n_atoms, numbers, first, neighbours, vectors, totals);
    for (int k = 0; k < 9; k++) virial[k] += totals.virial[k];
    return 0;
  } catch (const std::exception &error) {
    std::snprintf(message, size, "%s", error.what());
    return 1;
  }
}

/// The posterior variance of each atom's energy, eV², added to `variances`.
__attribute__((visibility("default"))) int mlsel_gap_variances(
    void *opened, int n_atoms, const int *numbers, const int *first, const int *neighbours,
    const double *vectors, double *variances, char *message, int size)
{
  try {
    auto &handle = *static_cast<Handle *>(opened);
    const std::lock_guard<std::mutex> lock(handle.is_used);
    if (!handle.has_variances) handle.potential.prepare_variances(handle.file);
    handle.has_variances = true;
    mlsel::GapTotals totals;
    totals.variances = variances;
    evaluate(handle, n_atoms, numbers, first, neighbours, vectors, totals);
    return 0;
  } catch (const std::exception &error) {
    std::snprintf(message, size, "%s", error.what());
    return 1;
  }
}
}
