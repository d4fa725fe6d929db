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
  /// `asked_for`: names of the quantities of atoms that fix pair may ask for.
  PairModel(class LAMMPS *, const std::string &name, std::initializer_list<const char *> asked_for);
  ~PairModel() override;
  void compute(int, int) override;
  void init_style() override;
  double init_one(int, int) override;
  void *extract(const char *, int &) override;
  void *extract_peratom(const char *, int &) override;

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

  /// A number of each own atom, 0 for those that are not ours. fix pair raises the flag before a
  /// step after which it reads the values; without that nothing is computed.
  struct Quantity {
    std::string name;
    int flag = 0;
    bigint step = -1;    // that the values are of
    std::vector<double> values;
  };

  /// The values that are to be filled in this step, zeros until then; null if nobody asks.
  double *wanted(const char *name);

  /// The element that a type which is ours stands for.
  virtual int atomic_number(int type) const = 0;

  /// Why the model that is there cannot tell a quantity, the same on all processes; empty: it can.
  virtual std::string refusal(const std::string &) const { return ""; }

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
  void check_exclusions();
  std::string exclusion();
  void check_special_bonds();
  void check_masses();
  Quantity *find(const std::string &name);
  void prepare_quantities();
  void check_known(const Quantity &quantity);

  std::vector<Quantity> quantities;    // fix pair keeps addresses of their flags
  std::vector<int> types_seen;
  bigint list_seen = -1;    // the step in which it was built
  std::vector<double> masses_seen;
  std::string exclusion_told;
};

}    // namespace LAMMPS_NS
#endif
