// What both pair styles share: arguments, checks, agreement of the processes on errors, and what
// LAMMPS may change between two neighbour lists. Knows LAMMPS, and nothing of the models.
#ifndef MLSEL_PAIR_MODEL_H
#define MLSEL_PAIR_MODEL_H

#include "pair.h"

#include <mpi.h>

#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace LAMMPS_NS {

class PairModel : public Pair {
 public:
  PairModel(class LAMMPS *, const std::string &name);
  ~PairModel() override;
  void compute(int, int) override;
  void init_style() override;
  double init_one(int, int) override;

 protected:
  /// What has changed since the step before. Neighbour lists are built by all processes together;
  /// types change on some, by fix sgcmc or the command set for instance, while the list stays.
  enum class Change { nothing, types, list };

  /// A step: make ready for what has changed, and add energies, forces and virials.
  virtual void gather(Change) = 0;
  virtual void evaluate() = 0;

  const std::string style;    // pair_style quip, for messages
  MPI_Comm ours;              // the processes of this LAMMPS: our messages meet no others
  std::string path;
  double cutoff = 0.0;
  std::vector<int> kinds;    // of each atom type: the model's number for it, or NOT_OURS
  static constexpr int NOT_OURS = -1;

  void check_units();

  /// pair_coeff * * file, up to n_optional words, and a word for each type, which are returned.
  std::vector<std::string> type_words(int narg, char **arg, int n_optional,
                                      const std::string &usage);

  /// The file, or the one of that name in LAMMPS_POTENTIALS; rank 0 looks.
  void find_file(const char *name);

  /// Types are ours as `kinds` says.
  void set_flags();

  /// Go on if no process has a cause to stop; else all end with the first one's. Collective.
  void agree(const std::string &cause);

  /// Rank 0's content for all. Collective.
  void broadcast(std::string &text);
  void broadcast(std::vector<double> &numbers);

  /// Sums over what a step gave: one that is no finite number ends it.
  void check_finite(std::initializer_list<std::span<const double>> results);

 private:
  template <typename Content> void broadcast_any(Content &content, MPI_Datatype type);
  Change find_changes();
  void check_special_bonds();

  std::vector<int> types_seen;
  bigint list_seen = -1;    // the step in which it was built
};

}    // namespace LAMMPS_NS
#endif
