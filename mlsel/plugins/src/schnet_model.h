// The compressed mode: SchNet from tables of its filters, forward and backward, without torch.
// Knows nothing of LAMMPS.
#ifndef MLSEL_SCHNET_MODEL_H
#define MLSEL_SCHNET_MODEL_H

#include <memory>
#include <string>

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
  const int *sender_row = nullptr;
  const int *sender_atom = nullptr;    // where its position stands
};

/// Rows of other processes' atoms, filled from their owners, or added to their owners'. A row has
/// `width` floats or doubles.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void forward(void *rows, int width, bool is_double) = 0;
  virtual void reverse(void *rows, int width, bool is_double) = 0;
};

/// What one evaluation gives.
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
  /// with others. Throws std::runtime_error.
  virtual void compute(const double *x, Exchange *exchange, Result &result) = 0;

  /// Whether it can fill Result::sigmas.
  virtual bool has_sigmas() const { return false; }

  virtual double memory_usage() const = 0;
  virtual const char *kernel() const = 0;

  static std::unique_ptr<CompressedModel> make(const ModelFile &file, int n_threads);
};

}    // namespace mlsel
#endif
