#include "pair_quip.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <exception>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "gap_file.h"
#include "neigh_list.h"
#include "quip_file.h"
#include "ranks.h"
#include "utils.h"

using namespace LAMMPS_NS;

PairMlselQuip::PairMlselQuip(LAMMPS *lmp) : PairModel(lmp, "quip", {"sigma"}) {}

PairMlselQuip::~PairMlselQuip()
{
  if (owner == this) owner = nullptr;
}

std::string PairMlselQuip::refusal(const std::string &) const
{
  if (path.empty()) return "";    // pair_coeff is still to come
  if (!gap)
    return "sigma is computed by mlsel's own evaluator, and QUIP's library evaluates " + path +
        ", as the log says why: quippy's local_gap_variance tells it outside LAMMPS";
  if (gap->has_triplets())
    return "sigma is computed of GAPs over SOAP descriptors and pairs, and " + path +
        " has terms over triplets: quippy's local_gap_variance tells it outside LAMMPS";
  return "";
}

// pair_style quip [library]
void PairMlselQuip::settings(int narg, char **arg)
{
  is_library_wanted = narg == 1 && std::string(arg[0]) == "library";
  if (narg != 0 && !is_library_wanted)
    error->all(FLERR, "{} takes no arguments or the word library, not {}{}", style, arg[0],
               narg > 1 ? " …" : "");
  check_units();
}

// pair_coeff * * file ["init string"] Z1 Z2 …
void PairMlselQuip::coeff(int narg, char **arg)
{
  const std::vector<std::string> words =
      type_words(narg, arg, 1, "* * file [\"init string\"] and one atomic number or NULL");
  kinds.assign(words.size() + 1, NOT_OURS);
  for (size_t type = 1; type < kinds.size(); type++) {
    const std::string &word = words[type - 1];
    if (word == "NULL") continue;
    const int number = utils::is_integer(word) ? std::atoi(word.c_str()) : 0;
    if (number < 1 || number > mlsel::MAX_ELEMENTS)
      error->all(FLERR,
                 "pair_coeff of {}: {} for atom type {} is no atomic number (1 to {}) and not NULL",
                 style, word, type, mlsel::MAX_ELEMENTS);
    kinds[type] = number;
  }
  find_file(arg[2]);
  read(static_cast<size_t>(narg) == 3 + words.size() ? "" : arg[3]);
  if (gap)
    start_threads();
  else
    check_library();
  set_flags();
}

// one process reads: the others hear what it found
void PairMlselQuip::read(const std::string &init)
{
  std::string cause, reason, left_out;
  std::vector<double> content;
  if (comm->me == 0) {
    try {
      const mlsel::QuipFile file = mlsel::read_quip_file(path, is_library_wanted);
      init_string = mlsel::quip_init_string(file, init, left_out);
      for (size_t type = 1; type < kinds.size(); type++)
        if (kinds[type] != NOT_OURS && !file.species.empty() && !file.species.count(kinds[type])) {
          cause = path + " knows nothing of atomic number " + std::to_string(kinds[type]) +
              " (atom type " + std::to_string(type) + "), only of";
          for (const int known : file.species) cause += ' ' + std::to_string(known);
        }
      if (is_library_wanted)
        reason = "it is asked for";
      else if (const auto gap = mlsel::our_part(file, init_string, reason))
        content = gap->numbers();
      else
        reason = path + ' ' + reason;
      if (content.empty() && cause.empty() && !file.unshared.empty())
        cause = (is_library_wanted ? path : reason + ", and") + " has the descriptor " +
            file.unshared +
            ", which QUIP's interface for LAMMPS evaluates wrongly: its energies depend on how "
            "atoms are shared out among processes and on the skin; quippy's ASE calculator "
            "evaluates it";
    } catch (const std::exception &exception) {
      cause = exception.what();
    }
  }
  agree(cause);
  broadcast(init_string);
  broadcast(content);
  if (comm->me == 0 && !left_out.empty()) utils::logmesg(lmp, "{}: {}\n", style, left_out);

  gap.reset();
  gap_file.reset();
  if (content.empty()) {
    if (comm->me == 0)
      utils::logmesg(lmp, "{}: QUIP's library evaluates {}: {}\n", style, path, reason);
    return;
  }
  try {
    gap_file = std::make_unique<mlsel::GapFile>(mlsel::GapFile::from_numbers(content));
    gap = std::make_unique<mlsel::GapPotential>(*gap_file);
    gap_terms = gap_file->summary();
    cutoff = gap->cutoff();
  } catch (const std::exception &exception) {
    cause = path + ' ' + exception.what();
  }
  agree(cause);
}

void PairMlselQuip::start_threads()
{
  int rank_on_node = 0, n_sharing = 1;
  mlsel::share_node(ours, rank_on_node, n_sharing);
  const int n = mlsel::default_threads(n_sharing);
  team = std::make_unique<mlsel::Team>(n);
  threads.clear();
  for (int k = 0; k < n; k++) threads.push_back({gap->workspace(), {}, {}, {}, {}, {}, {}});
  if (comm->me == 0)
    utils::logmesg(lmp,
                   "{}: mlsel's own evaluator ({}, threads of a process: {}) evaluates {}, terms: "
                   "{}\n",
                   style, gap->instructions(), n, path, gap_terms);
}

void PairMlselQuip::init_style()
{
  if (!gap) {
    // the n-th quip of a hybrid; where there is one alone, LAMMPS gives that for every n
    const Pair *last = nullptr;
    for (int n = 1;; n++) {
      const Pair *other = force->pair_match("quip", 1, n);
      if (!other || other == last) break;
      last = other;
      const auto *quip = dynamic_cast<const PairMlselQuip *>(other);
      if (quip && quip != this && !quip->gap)
        error->all(
            FLERR,
            "there can be one pair_style quip that uses QUIP's library, which holds a single "
            "potential");
    }
  }
  PairModel::init_style();
}

void PairMlselQuip::gather(Change change)
{
  if (gap)
    gather_gap(change);
  else
    gather_library(change);
}

void PairMlselQuip::evaluate()
{
  if (gap)
    evaluate_gap();
  else
    evaluate_library();
}

void PairMlselQuip::gather_gap(Change change)
{
  if (change == Change::nothing) return;
  const size_t n_all = static_cast<size_t>(atom->nlocal) + atom->nghost;
  numbers.resize(n_all);
  for (size_t k = 0; k < n_all; k++) numbers[k] = std::max(0, kinds[atom->type[k]]);
  ilist.clear();
  for (int ii = 0; ii < list->inum; ii++)
    if (numbers[list->ilist[ii]]) ilist.push_back(list->ilist[ii]);
  order = mlsel::GapPotential::order(ilist, numbers.data());
}

void PairMlselQuip::evaluate_gap()
{
  double *sigma = wanted("sigma");
  if (sigma && gap_file) {
    try {
      gap->prepare_variances(*gap_file);
    } catch (const std::exception &exception) {
      error->all(FLERR, "{}: {} {}", style, path, exception.what());
    }
    gap_file.reset();
  }
  if (ilist.empty()) return;
  const size_t n_all = numbers.size();
  team->run([this](int thread) { evaluate_blocks(thread); });

  for (size_t k = 0; k < threads.size(); k++) {
    Thread &thread = threads[k];
    if (!thread.failure.empty()) error->one(FLERR, "{}: {}", style, thread.failure);
    check_finite({thread.totals.virial});
    if (vflag_global) add_virial(virial, thread.totals.virial);
    if (vflag_atom)
      for (size_t i = 0; i < n_all; i++) add_virial(vatom[i], &thread.virials[9 * i]);
    if (k > 0)    // the first thread writes to LAMMPS's array
      for (size_t i = 0; i < n_all; i++)
        for (int d = 0; d < 3; d++) atom->f[i][d] += thread.forces[3 * i + d];
    if (k > 0)
      for (size_t i = 0; i < n_all; i++) threads[0].energies[i] += thread.energies[i];
  }
  if (sigma)
    for (int i = 0; i < atom->nlocal; i++) sigma[i] = std::sqrt(std::max(0.0, sigma[i]));
  // ghosts too have their share of pairs and triplets
  const std::vector<double> &energies = threads[0].energies;
  check_finite({energies});
  for (size_t i = 0; i < n_all; i++) {
    if (eflag_global) eng_vdwl += energies[i];
    if (eflag_atom) eatom[i] += energies[i];
  }
}

/// A thread's share of the blocks.
void PairMlselQuip::evaluate_blocks(int index)
{
  Thread &thread = threads[index];
  const size_t n_all = numbers.size();
  const double *const *x = atom->x;
  const double reach = cutoff * cutoff;
  try {
    thread.failure.clear();
    thread.totals = {};
    thread.energies.assign(n_all, 0.0);
    thread.totals.energies = thread.energies.data();
    thread.totals.variances = wanted("sigma");    // each central atom is one thread's
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

double PairMlselQuip::memory_usage()
{
  size_t n_numbers = quip.x.capacity() + quip.forces.capacity() + quip.local_energies.capacity() +
      quip.local_virials.capacity();
  for (const Thread &thread : threads)
    n_numbers += thread.energies.capacity() + thread.forces.capacity() + thread.virials.capacity();
  const size_t n_integers = numbers.capacity() + ilist.capacity() + atoms.capacity() +
      index_of.capacity() + quip.numbers.capacity() + quip.tags.capacity() + quip.ilist.capacity() +
      quip.numneigh.capacity() + quip.neigh.capacity();
  return Pair::memory_usage() + static_cast<double>(n_numbers * sizeof(double)) +
      static_cast<double>(n_integers * sizeof(int));
}
