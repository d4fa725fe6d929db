#include "pair_model.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <iterator>
#include <string_view>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neighbor.h"
#include "update.h"
#include "utils.h"

#include "files.h"
#include "masses.h"

using namespace LAMMPS_NS;

static constexpr double OTHER_MASS = 0.3;    // of an element's own: isotopes differ by less
static constexpr size_t LONGEST = 320;       // characters of a message

PairModel::PairModel(LAMMPS *lmp, const std::string &name,
                     std::initializer_list<const char *> asked_for)
    : Pair(lmp), style("pair_style " + name)
{
  for (const char *one : asked_for) quantities.push_back({one, 0, -1, {}});
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
  MPI_Comm_dup(world, &ours);
}

PairModel::~PairModel()
{
  int is_over = 0;
  MPI_Finalized(&is_over);    // a LAMMPS in Python may outlive MPI
  if (!is_over) MPI_Comm_free(&ours);
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairModel::check_units()
{
  if (std::string(update->unit_style) != "metal")
    error->all(FLERR, "{} needs units metal, not {}", style, update->unit_style);
}

std::vector<std::string> PairModel::type_words(int narg, char **arg, int n_optional,
                                               const std::string &usage)
{
  const int n_types = atom->ntypes;
  if (narg < 3 + n_types || narg > 3 + n_optional + n_types)
    error->all(FLERR,
               "pair_coeff of {} is: {} for each of the {} atom types; {} arguments were given",
               style, usage, n_types, narg);
  if (std::string(arg[0]) != "*" || std::string(arg[1]) != "*")
    error->all(FLERR, "pair_coeff of {} must begin with * *, not {} {}", style, arg[0], arg[1]);
  return {arg + narg - n_types, arg + narg};
}

void PairModel::find_file(const char *name)
{
  path.clear();
  if (comm->me == 0) path = utils::get_potential_file_path(name);
  broadcast(path);
  if (path.empty())
    error->all(FLERR,
               "{}: there is no file {} that can be read, neither here nor in LAMMPS_POTENTIALS",
               style, name);
}

void PairModel::set_flags()
{
  const int n_types = atom->ntypes;
  if (!allocated) {
    allocated = 1;
    memory->create(setflag, n_types + 1, n_types + 1, "pair:setflag");
    memory->create(cutsq, n_types + 1, n_types + 1, "pair:cutsq");
  }
  for (int i = 0; i <= n_types; i++)
    for (int j = 0; j <= n_types; j++)
      setflag[i][j] = i > 0 && j >= i && kinds[i] != NOT_OURS && kinds[j] != NOT_OURS;
}

void PairModel::init_style()
{
  if (!force->newton_pair) error->all(FLERR, "{} needs newton on", style);
  check_exclusions();
  check_masses();
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

/// Elements stand in pair_coeff in the order of the types, and nothing else tells them apart, but
/// what they weigh.
void PairModel::check_masses()
{
  if (!atom->mass || comm->me) return;
  const std::vector<double> masses(atom->mass, atom->mass + atom->ntypes + 1);
  if (masses == masses_seen) return;
  masses_seen = masses;
  const auto mass_of = [&](int type) {    // of its element, 0 if it is none
    const auto number = static_cast<size_t>(kinds[type] == NOT_OURS ? 0 : atomic_number(type));
    return number < std::size(mlsel::MASSES) ? mlsel::MASSES[number] : 0.0;
  };
  for (int type = 1; type <= atom->ntypes; type++) {
    const double own = mass_of(type), off = std::fabs(masses[type] - own);
    if (own == 0.0 || !atom->mass_setflag[type]) continue;
    bool is_other = off > OTHER_MASS * own && own > mlsel::MASSES[1];
    for (int other = 1; other <= atom->ntypes; other++)
      is_other |= mass_of(other) > 0.0 && std::fabs(masses[type] - mass_of(other)) < off;
    if (is_other)
      error->warning(FLERR,
                     "{}: atom type {} has the mass {} and is evaluated as the element of atomic "
                     "number {}, whose mass is {}: are the elements in pair_coeff in the order of "
                     "the atom types?",
                     style, type, masses[type], atomic_number(type), own);
  }
}

double PairModel::init_one(int i, int j)
{
  return kinds[i] != NOT_OURS && kinds[j] != NOT_OURS ? cutoff : 0.0;
}

void PairModel::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  gather(find_changes());
  prepare_quantities();
  evaluate();
  for (const Quantity &one : quantities)
    if (one.flag) check_finite({one.values});
}

void PairModel::prepare_quantities()
{
  for (Quantity &one : quantities) {
    if (!one.flag) continue;
    check_known(one);
    // never without room: to fix pair no address is no such quantity
    one.values.assign(std::max(1, atom->nlocal), 0.0);
    one.step = update->ntimestep;
  }
}

double *PairModel::wanted(const char *name)
{
  Quantity *one = find(name);
  return one && one->flag ? one->values.data() : nullptr;
}

PairModel::Quantity *PairModel::find(const std::string &name)
{
  for (Quantity &one : quantities)
    if (one.name == name) return &one;
  return nullptr;
}

void PairModel::check_known(const Quantity &quantity)
{
  if (const std::string cause = refusal(quantity.name); !cause.empty())
    error->all(FLERR, "{}: {}", style, cause);
}

/// fix pair asks for the address of a quantity's flag when it is made.
void *PairModel::extract(const char *name, int &dimension)
{
  constexpr std::string_view suffix = "_flag";
  const std::string_view word = name;
  if (!word.ends_with(suffix)) return nullptr;
  Quantity *one = find(std::string(word.substr(0, word.size() - suffix.size())));
  if (!one) return nullptr;
  check_known(*one);
  dimension = 0;
  return &one->flag;
}

/// And for the values, once when it is made and after each step that it wants.
void *PairModel::extract_peratom(const char *name, int &columns)
{
  Quantity *one = find(name);
  if (!one) return nullptr;
  const bool is_running = update->whichflag != 0;
  if (is_running && one->step != update->ntimestep)
    error->all(FLERR,
               "{}: {} was not computed in step {}: in fix pair the number behind it must be 1, "
               "which asks for it",
               style, name, update->ntimestep);
  if (one->values.empty()) one->values.assign(1, 0.0);
  columns = 0;
  return one->values.data();
}

PairModel::Change PairModel::find_changes()
{
  const auto n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  const int *types = atom->type;
  const bool is_new = neighbor->ago == 0 || neighbor->lastcall != list_seen;
  if (!is_new && types_seen.size() != n_all)
    error->one(FLERR,
               "{}: there are {} atoms, ghosts included, and the last neighbour list was built for "
               "{}: whoever adds or deletes atoms must have it built anew (no run … pre no then)",
               style, n_all, types_seen.size());
  if (!is_new) {
    if (std::equal(types_seen.begin(), types_seen.end(), types)) return Change::nothing;
    // a hybrid's list holds the atoms alone that were ours when it was built
    for (size_t k = 0; k < n_all; k++)
      if ((kinds[types[k]] == NOT_OURS) != (kinds[types_seen[k]] == NOT_OURS))
        error->one(FLERR,
                   "{}: between two neighbour lists an atom's type changed from {} to {}, of which "
                   "one is NULL: have the list built at every step, neigh_modify every 1 delay 0 "
                   "check no",
                   style, types_seen[k], types[k]);
  }
  if (is_new) check_special_bonds();
  types_seen.assign(types, types + n_all);
  list_seen = neighbor->lastcall;
  return is_new ? Change::list : Change::types;
}

void PairModel::agree(const std::string &cause)
{
  const int me = cause.empty() ? comm->nprocs : comm->me;
  int first = 0;
  MPI_Allreduce(&me, &first, 1, MPI_INT, MPI_MIN, ours);
  if (first == comm->nprocs) return;
  std::string told = mlsel::shortened(cause, LONGEST);
  int size = static_cast<int>(told.size());
  MPI_Bcast(&size, 1, MPI_INT, first, ours);
  told.resize(size);
  MPI_Bcast(told.data(), size, MPI_CHAR, first, ours);
  error->all(FLERR, "{}: {}", style, told);
}

template <typename Content> void PairModel::broadcast_any(Content &content, MPI_Datatype type)
{
  bigint size = static_cast<bigint>(content.size());
  MPI_Bcast(&size, 1, MPI_LMP_BIGINT, 0, ours);
  if (size > INT_MAX)
    error->all(FLERR, "{}: {} has {} numbers or characters, more than the {} that MPI sends", style,
               path, size, INT_MAX);
  content.resize(size);
  MPI_Bcast(content.data(), static_cast<int>(size), type, 0, ours);
}

void PairModel::broadcast(std::string &text) { broadcast_any(text, MPI_CHAR); }

void PairModel::broadcast(std::vector<double> &numbers) { broadcast_any(numbers, MPI_DOUBLE); }

void PairModel::check_finite(std::initializer_list<std::span<const double>> results)
{
  double sum = 0.0;
  for (const std::span<const double> &one : results)
    for (const double number : one) sum += number;
  if (!std::isfinite(sum))
    error->one(
        FLERR,
        "{}: energy or forces are not finite numbers at step {}: atoms are far too close, or "
        "{} is damaged",
        style, update->ntimestep, path);
}
