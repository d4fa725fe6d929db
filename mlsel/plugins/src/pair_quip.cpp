#include "pair_quip.h"

#include <mpi.h>

#include <cstdlib>
#include <exception>

#include "atom.h"
#include "bridge.h"
#include "comm.h"
#include "domain.h"
#include "error.h"
#include "force.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "gap_file.h"
#include "quip_file.h"
#include "ranks.h"
#include "update.h"
#include "utils.h"

using namespace LAMMPS_NS;

PairMlselQuip *PairMlselQuip::owner = nullptr;

PairMlselQuip::PairMlselQuip(LAMMPS *lmp) : Pair(lmp)
{
  single_enable = 0;
  restartinfo = 0;
  one_coeff = 1;
  manybody_flag = 1;
  no_virial_fdotr_compute = 1;
  centroidstressflag = CENTROID_NOTAVAIL;
}

PairMlselQuip::~PairMlselQuip()
{
  if (owner == this) owner = nullptr;
  if (allocated) {
    memory->destroy(setflag);
    memory->destroy(cutsq);
  }
}

void PairMlselQuip::allocate()
{
  allocated = 1;
  const int n = atom->ntypes + 1;
  memory->create(setflag, n, n, "pair:setflag");
  memory->create(cutsq, n, n, "pair:cutsq");
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) setflag[i][j] = 0;
}

// pair_style quip [library]
void PairMlselQuip::settings(int narg, char **arg)
{
  is_library_wanted = narg == 1 && std::string(arg[0]) == "library";
  if (narg != 0 && !is_library_wanted)
    error->all(FLERR, "pair_style quip takes no arguments or the word library, not {}{}", arg[0],
               narg > 1 ? " …" : "");
  if (std::string(update->unit_style) != "metal")
    error->all(FLERR, "pair_style quip needs units metal, not {}", update->unit_style);
}

// pair_coeff * * file ["init string"] Z1 Z2 …
void PairMlselQuip::coeff(int narg, char **arg)
{
  if (!allocated) allocate();
  const int ntypes = atom->ntypes;
  if (narg != 3 + ntypes && narg != 4 + ntypes)
    error->all(FLERR,
               "pair_coeff of pair_style quip is: * * file [\"init string\"] and one atomic number "
               "or NULL for each of the {} atom types; {} arguments were given",
               ntypes, narg);
  if (std::string(arg[0]) != "*" || std::string(arg[1]) != "*")
    error->all(FLERR, "pair_coeff of pair_style quip must begin with * *, not {} {}", arg[0],
               arg[1]);

  type_numbers.assign(ntypes + 1, 0);
  for (int type = 1; type <= ntypes; type++) {
    const std::string word = arg[narg - ntypes + type - 1];
    if (word == "NULL") continue;
    const int number = utils::is_integer(word) ? std::atoi(word.c_str()) : 0;
    if (number < 1 || number > 118)
      error->all(FLERR, "pair_coeff of pair_style quip: {} for atom type {} is no atomic number (1 to 118) and not NULL",
                 word, type);
    type_numbers[type] = number;
  }

  path = arg[2];
  open_file(narg == 4 + ntypes ? arg[3] : "");
  if (gap)
    start_threads();
  else
    load();
  for (int i = 1; i <= ntypes; i++)
    for (int j = i; j <= ntypes; j++) setflag[i][j] = type_numbers[i] && type_numbers[j] ? 1 : 0;
}

// one rank reads: the others hear what it found
void PairMlselQuip::open_file(const std::string &init)
{
  std::string cause, reason = is_library_wanted ? "it is asked for" : "";
  std::vector<double> content;
  if (comm->me == 0) {
    try {
      const mlsel::QuipFile file = mlsel::read_quip_file(path);
      init_string = mlsel::quip_init_string(file, path, init);
      for (size_t type = 1; type < type_numbers.size(); type++) {
        const int number = type_numbers[type];
        if (number && !file.species.empty() && !file.species.count(number)) {
          cause = path + " knows nothing of atomic number " + std::to_string(number) +
              " (atom type " + std::to_string(type) + "), only of";
          for (int known : file.species) cause += ' ' + std::to_string(known);
        }
      }
      if (cause.empty() && reason.empty()) content = mlsel::read_gap_file(path, init).numbers();
    } catch (const mlsel::NotCovered &exception) {
      reason = path + ' ' + exception.what();
    } catch (const std::exception &exception) {
      cause = exception.what();
    }
  }
  int sizes[3] = {static_cast<int>(cause.size()), static_cast<int>(init_string.size()),
                  static_cast<int>(content.size())};
  MPI_Bcast(sizes, 3, MPI_INT, 0, world);
  cause.resize(sizes[0]);
  init_string.resize(sizes[1]);
  content.resize(sizes[2]);
  MPI_Bcast(cause.data(), sizes[0], MPI_CHAR, 0, world);
  MPI_Bcast(init_string.data(), sizes[1], MPI_CHAR, 0, world);
  MPI_Bcast(content.data(), sizes[2], MPI_DOUBLE, 0, world);
  if (!cause.empty()) error->all(FLERR, "pair_style quip: {}", cause);

  gap.reset();
  if (!content.empty()) {
    try {
      gap = std::make_unique<mlsel::GapPotential>(mlsel::GapFile::from_numbers(content));
      cutoff = gap->cutoff();
    } catch (const std::exception &exception) {
      error->all(FLERR, "pair_style quip: {} {}", path, exception.what());
    }
  } else if (comm->me == 0) {
    utils::logmesg(lmp, "pair_style quip: QUIP's library evaluates {}: {}\n", path, reason);
  }
}

void PairMlselQuip::start_threads()
{
  int rank_on_node = 0, n_sharing = 1;
  mlsel::share_node(world, rank_on_node, n_sharing);
  const int n = mlsel::default_threads(n_sharing);
  team = std::make_unique<mlsel::Team>(n);
  threads.clear();
  for (int k = 0; k < n; k++) threads.push_back({gap->workspace(), {}, {}, {}, {}, {}});
  if (comm->me == 0)
    utils::logmesg(lmp,
                   "pair_style quip: mlsel's own evaluator ({}, threads of a process: {}) evaluates "
                   "{}\n",
                   gap->instructions(), n, path);
}

void PairMlselQuip::load()
{
  std::string cause;
  try {
    quip_load = mlsel::bridge_function<mlsel_quip_load_function>("libmlsel_quip.so", "mlsel_quip_load");
    quip_compute = mlsel::bridge_function<mlsel_quip_compute_function>("libmlsel_quip.so",
                                                                        "mlsel_quip_compute");
    owner = nullptr;
    const char *message = quip_load(path.c_str(), init_string.c_str(), &cutoff);
    if (message) cause = std::string("QUIP refuses ") + path + ": " + message;
  } catch (const std::exception &exception) {
    cause = exception.what();
  }
  const int failed = !cause.empty();
  int n_failed = 0;
  MPI_Allreduce(&failed, &n_failed, 1, MPI_INT, MPI_SUM, world);
  if (n_failed == comm->nprocs) error->all(FLERR, "pair_style quip: {}", cause);
  if (n_failed)
    error->one(FLERR, "pair_style quip: {}", failed ? cause : "another process could not load " + path);
  owner = this;
}

void PairMlselQuip::init_style()
{
  if (!force->newton_pair) error->all(FLERR, "pair_style quip needs newton on");
  if (!gap) {
    // the n-th quip of a hybrid; where there is one alone, LAMMPS gives that for every n
    const Pair *last = nullptr;
    for (int n = 1;; n++) {
      const Pair *other = force->pair_match("quip", 1, n);
      if (!other || other == last) break;
      last = other;
      const auto *quip = dynamic_cast<const PairMlselQuip *>(other);
      if (quip && quip != this && !quip->gap)
        error->all(FLERR,
                   "there can be one pair_style quip that uses QUIP's library, which holds a single "
                   "potential");
    }
  }
  neighbor->add_request(this, NeighConst::REQ_FULL);
}

double PairMlselQuip::init_one(int i, int j)
{
  return type_numbers[i] && type_numbers[j] ? cutoff : 0.0;
}

void PairMlselQuip::gather_neighbours()
{
  const int nall = atom->nlocal + atom->nghost;
  atoms.clear();
  numbers.clear();
  tags.clear();
  ilist.clear();
  numneigh.clear();
  neigh.clear();
  index_of.assign(nall, -1);
  n_owned = 0;
  for (int i = 0; i < nall; i++) {
    const int number = type_numbers[atom->type[i]];
    if (!number) continue;
    index_of[i] = static_cast<int>(atoms.size());
    if (i < atom->nlocal) n_owned++;
    atoms.push_back(i);
    numbers.push_back(number);
    tags.push_back(static_cast<int>(atom->tag[i]));
  }
  for (int ii = 0; ii < list->inum; ii++) {
    const int i = list->ilist[ii];
    if (index_of[i] < 0) continue;
    ilist.push_back(index_of[i]);
    int n = 0;
    for (int jj = 0; jj < list->numneigh[i]; jj++) {
      const int j = index_of[list->firstneigh[i][jj] & NEIGHMASK];
      if (j < 0) continue;
      neigh.push_back(j + 1);
      n++;
    }
    numneigh.push_back(n);
  }
}

void PairMlselQuip::compute(int eflag, int vflag)
{
  ev_init(eflag, vflag);
  if (gap)
    compute_gap();
  else
    compute_library();
}

// QUIP's virials are 3 × 3 and need not be symmetric term by term
static void add_virial(double *sum, const double *v)
{
  sum[0] += v[0];
  sum[1] += v[4];
  sum[2] += v[8];
  sum[3] += 0.5 * (v[1] + v[3]);
  sum[4] += 0.5 * (v[2] + v[6]);
  sum[5] += 0.5 * (v[5] + v[7]);
}

void PairMlselQuip::compute_gap()
{
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  if (neighbor->ago == 0 || numbers.size() != n_all) {
    numbers.resize(n_all);
    for (size_t k = 0; k < n_all; k++) numbers[k] = type_numbers[atom->type[k]];
    ilist.clear();
    for (int ii = 0; ii < list->inum; ii++)
      if (numbers[list->ilist[ii]]) ilist.push_back(list->ilist[ii]);
    order = mlsel::GapPotential::order(ilist, numbers.data());
  }
  if (ilist.empty()) return;

  local_energies.assign(n_all, 0.0);
  team->run([this](int thread) { evaluate_blocks(thread); });

  for (size_t k = 0; k < threads.size(); k++) {
    Thread &thread = threads[k];
    if (!thread.failure.empty()) error->one(FLERR, "pair_style quip: {}", thread.failure);
    if (vflag_global) add_virial(virial, thread.totals.virial);
    if (vflag_atom)
      for (size_t i = 0; i < n_all; i++) add_virial(vatom[i], &thread.virials[9 * i]);
    if (k > 0)    // the first thread writes to LAMMPS's array
      for (size_t i = 0; i < n_all; i++)
        for (int d = 0; d < 3; d++) atom->f[i][d] += thread.forces[3 * i + d];
  }
  for (int i : ilist) {
    if (eflag_global) eng_vdwl += local_energies[i];
    if (eflag_atom) eatom[i] += local_energies[i];
  }
}

/// A thread's share of the blocks. Every atom is the centre of one block alone: energies need no
/// array of a thread's own.
void PairMlselQuip::evaluate_blocks(int index)
{
  Thread &thread = threads[index];
  const size_t n_all = numbers.size();
  const double *const *x = atom->x;
  const double reach = cutoff * cutoff;
  try {
    thread.failure.clear();
    thread.totals = {};
    thread.totals.energies = local_energies.data();
    if (index > 0) thread.forces.assign(3 * n_all, 0.0);
    thread.totals.forces = index > 0 ? thread.forces.data() : atom->f[0];
    if (vflag_atom) {
      thread.virials.assign(9 * n_all, 0.0);
      thread.totals.virials = thread.virials.data();
    }
    for (size_t b = index; b + 1 < order.starts.size(); b += threads.size()) {
      thread.block.clear();
      for (int k = order.starts[b]; k < order.starts[b + 1]; k++) {
        const int i = order.atoms[k];
        thread.block.atomic_number = numbers[i];
        thread.block.add_atom(i);
        for (int jj = 0; jj < list->numneigh[i]; jj++) {
          const int j = list->firstneigh[i][jj] & NEIGHMASK;
          const double d[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
          if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] < reach)
            thread.block.add_neighbour(j, d[0], d[1], d[2]);
        }
        thread.block.close_atom();
      }
      gap->evaluate(thread.block, numbers.data(), *thread.work, thread.totals);
    }
  } catch (const std::exception &exception) {
    thread.failure = exception.what();
  }
}

void PairMlselQuip::compute_library()
{
  if (owner != this) load();    // another LAMMPS of this process has been here
  if (neighbor->ago == 0 || static_cast<int>(index_of.size()) != atom->nlocal + atom->nghost)
    gather_neighbours();
  if (ilist.empty()) return;

  const auto n = atoms.size();
  x.resize(3 * n);
  forces.resize(3 * n);
  local_energies.resize(n);
  local_virials.resize(9 * n);
  for (size_t k = 0; k < n; k++)
    for (int d = 0; d < 3; d++) x[3 * k + d] = atom->x[atoms[k]][d];
  double lattice[9] = {domain->xprd, 0.0, 0.0, domain->xy, domain->yprd, 0.0, domain->xz,
                       domain->yz, domain->zprd};

  mlsel_quip_call call = {};
  call.nlocal = n_owned;
  call.nghost = static_cast<int>(n) - n_owned;
  call.inum = static_cast<int>(ilist.size());
  call.sum_neigh = static_cast<int>(neigh.size());
  call.atomic_numbers = numbers.data();
  call.tags = tags.data();
  call.ilist = ilist.data();
  call.numneigh = numneigh.data();
  call.neigh = neigh.data();
  call.lattice = lattice;
  call.x = x.data();
  call.local_energies = local_energies.data();
  call.local_virials = local_virials.data();
  call.forces = forces.data();
  if (const char *message = quip_compute(&call))
    error->one(FLERR, "pair_style quip: QUIP says: {}", message);

  for (size_t k = 0; k < n; k++)
    for (int d = 0; d < 3; d++) atom->f[atoms[k]][d] += forces[3 * k + d];
  if (eflag_global) eng_vdwl += call.energy;
  if (eflag_atom)
    for (size_t k = 0; k < n; k++) eatom[atoms[k]] += local_energies[k];
  if (vflag_global) add_virial(virial, call.virial);
  if (vflag_atom)
    for (size_t k = 0; k < n; k++) add_virial(vatom[atoms[k]], &local_virials[9 * k]);
}

double PairMlselQuip::memory_usage()
{
  size_t n_threaded = 0;
  for (const Thread &thread : threads)
    n_threaded += thread.forces.capacity() + thread.virials.capacity();
  return Pair::memory_usage() + static_cast<double>(n_threaded * sizeof(double)) +
      static_cast<double>((atoms.capacity() + index_of.capacity() + numbers.capacity() +
                           tags.capacity() + ilist.capacity() + numneigh.capacity() +
                           neigh.capacity()) *
                              sizeof(int) +
                          (x.capacity() + forces.capacity() + local_energies.capacity() +
                           local_virials.capacity()) *
                              sizeof(double));
}
