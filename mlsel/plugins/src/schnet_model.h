// The compressed mode: SchNet from tables of its filters, forward and backward, without torch.
// Knows nothing of LAMMPS.
#ifndef MLSEL_SCHNET_MODEL_H
#define MLSEL_SCHNET_MODEL_H

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model_file.h"
#include "threads.h"

namespace mlsel {

/// Atoms and candidate pairs between two builds of the neighbour list.
///
/// Rows: 0 … n_local − 1 are own atoms; up to n_rows follow the atoms of other processes that occur
/// in pairs. A periodic image of an atom is that atom's row. Pairs stand once, at the own atom `i`
/// that receives; a pair of two own atoms is a message both ways.
struct Graph {
  int n_local = 0, n_rows = 0;
  const int *species = nullptr;    // of each row; −1: not ours
  const int *first = nullptr;      // n_local + 1: the candidates of each own atom
  const int *first_foreign = nullptr;    // n_local: those of them that others own stand last
  const int *sender_row = nullptr;
  const int *sender_atom = nullptr;    // where its position stands
};

/// Rows of other processes' atoms, filled from their owners, or added to their owners'. A row has
/// `width` floats or doubles. Between start and finish the rows that are sent stay as they are, and
/// those that come must not be used; what is added is added by finish.
class Exchange {
 public:
  virtual ~Exchange() = default;

  /// Which of the others' rows matter from now on, the same question on all processes; others may
  /// be left out of what is exchanged. Null: all.
  virtual void use(const std::vector<char> *is_used) = 0;
  virtual void start_forward(void *rows, int width, bool is_double) = 0;
  virtual void start_reverse(void *rows, int width, bool is_double) = 0;
  virtual void finish() = 0;

  void forward(void *rows, int width, bool is_double)
  {
    start_forward(rows, width, is_double);
    finish();
  }
  void reverse(void *rows, int width, bool is_double)
  {
    start_reverse(rows, width, is_double);
    finish();
  }
};

/// What one evaluation gives of a model.
struct Result {
  double *energies = nullptr;        // n_local
  double *forces = nullptr;          // n_rows × 3
  double *atom_virials = nullptr;    // n_rows × 6 (xx, yy, zz, xy, xz, yz), or null
  double *sigmas = nullptr;          // n_local, uncertainties of the energies, or null
  double virial[6] = {};
  long n_pairs = 0;
};

class CompressedModel {
 public:
  virtual ~CompressedModel() = default;

  /// For a new neighbour list.
  virtual void set_graph(const Graph &graph) = 0;

  /// x: positions, 3 a LAMMPS atom. `exchange` is null where this process shares no rows
  /// with others. A result for each file it was made of. Throws std::runtime_error.
  virtual void compute(const double *x, Exchange *exchange, std::span<Result> results) = 0;

  /// Whether it can fill Result::sigmas of the first file.
  virtual bool has_sigmas() const { return false; }

  virtual double memory_usage() const = 0;
  virtual const char *kernel() const = 0;

  /// Of one file, or of several that `fit_together`: distances and the splines' weights are then
  /// found once for all, and each pair is gone through once.
  static std::unique_ptr<CompressedModel> make(std::span<const ModelFile *const> files,
                                               int n_threads);
  static bool fit_together(const ModelFile &one, const ModelFile &other);
};

}    // namespace mlsel
#endif
