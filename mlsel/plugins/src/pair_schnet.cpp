#include "pair_schnet.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <tuple>

#include "atom.h"
#include "comm.h"
#include "error.h"
#include "neigh_list.h"

using namespace LAMMPS_NS;

static constexpr double STEP_BEYOND = 0.25;    // Å beyond the cutoff

PairMlselSchnet::PairMlselSchnet(LAMMPS *lmp)
    : PairModel(lmp, "schnet", {"sigma", "deviation", "below"})
{
}

PairMlselSchnet::~PairMlselSchnet() { close_models(); }

std::string PairMlselSchnet::refusal(const std::string &quantity) const
{
  if (members.empty()) return "";    // pair_coeff is still to come
  const Member &first_one = members.front();
  const std::string &name = first_one.path;
  if (quantity == "deviation" && members.size() == 1)
    return "deviation is that of several models' forces, and there is " + name +
        " alone: give pair_coeff * * a.pt b.pt c.pt and the elements";
  if (quantity == "below" && first_one.file.shortest.empty())
    return name +
        " does not tell the shortest distances of its training set, below which below counts: it "
        "was exported without them, or by an older mlsel; train it again";
  if (quantity != "sigma") return "";
  if (!first_one.file.compressed.has_rigidity)
    return name +
        " holds no rigidity of its last layer, from which sigma is: it was exported without, or "
        "by an older mlsel; train it again, or ask for deviation of several models";
  if (!evaluator() || !evaluator()->has_sigmas())
    return "sigma is computed by the compressed mode on CPUs alone: take pair_style schnet "
           "compressed without device cuda";
  return "";
}

void PairMlselSchnet::gather(Change change)
{
  if (change == Change::list) build_graph();
  if (change != Change::nothing) set_species();
}

/// Who owns which ghost: a periodic image of an own atom has that atom's row.
void PairMlselSchnet::find_owners()
{
  const int nlocal = atom->nlocal, nall = nlocal + atom->nghost;
  owners.resize(2 * static_cast<size_t>(nall));
  for (int i = 0; i < nlocal; i++) {
    owners[2 * static_cast<size_t>(i)] = comm->me;
    owners[2 * static_cast<size_t>(i) + 1] = i;
  }
  comm->forward_comm(this, 2);

  row_of.assign(nall, -1);
  atom_of.resize(nlocal);
  for (int i = 0; i < nall; i++) {
    if (static_cast<int>(owners[2 * static_cast<size_t>(i)]) != comm->me) continue;
    row_of[i] = static_cast<int>(owners[2 * static_cast<size_t>(i) + 1]);
    if (i < nlocal) atom_of[i] = i;
  }
}

/// Call body(j) for the neighbours of an own atom, if both are ours.
template <typename Body> void PairMlselSchnet::for_pairs(int i, const Body &body) const
{
  if (in_list[i] < 0 || kinds[atom->type[i]] == NOT_OURS) return;
  for (int jj = 0; jj < list->numneigh[i]; jj++) {
    const int j = list->firstneigh[i][jj] & NEIGHMASK;
    if (kinds[atom->type[j]] != NOT_OURS) body(j);
  }
}

/// Rows of others' atoms that occur in pairs: by owner, and those that are nearer to atoms of this
/// process first, so that what a step needs are the first ones, nearly.
void PairMlselSchnet::add_foreign_rows()
{
  struct Foreign {
    mlsel::GhostRows::Owner owner;
    double nearest;    // of its images, Å²; then how far beyond the cutoff, in steps
    int atom;
  };
  std::vector<Foreign> foreign;
  for (int i = 0; i < atom->nlocal; i++)
    for_pairs(i, [&](int j) {
      if (row_of[j] >= 0) return;
      const double *owner = &owners[2 * static_cast<size_t>(j)];
      const double *a = atom->x[i], *b = atom->x[j];
      const double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
      const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
      if (row_of[j] == -1) {
        row_of[j] = -2 - static_cast<int>(foreign.size());    // its place there
        foreign.push_back({{static_cast<int>(owner[0]), static_cast<int>(owner[1])}, square, j});
      } else {
        double &nearest = foreign[-2 - row_of[j]].nearest;
        nearest = std::min(nearest, square);
      }
    });
  const auto key = [](const Foreign &one) { return std::tie(one.owner, one.nearest, one.atom); };
  std::sort(foreign.begin(), foreign.end(),
            [&](const Foreign &a, const Foreign &b) { return key(a) < key(b); });
  // an owner's first image is the nearest one
  std::vector<Foreign> atoms;
  for (const Foreign &one : foreign)
    if (atoms.empty() || atoms.back().owner != one.owner) atoms.push_back(one);
  // in steps, within which neighbours in space stay neighbours in memory
  for (Foreign &one : atoms)
    one.nearest = std::ceil(std::max(0.0, std::sqrt(one.nearest) - cutoff) / STEP_BEYOND);
  std::sort(atoms.begin(), atoms.end(), [](const Foreign &a, const Foreign &b) {
    return std::tie(a.owner.rank, a.nearest, a.owner.row) <
        std::tie(b.owner.rank, b.nearest, b.owner.row);
  });
  std::vector<mlsel::GhostRows::Owner> others;
  std::map<mlsel::GhostRows::Owner, int> row_of_owner;
  for (const Foreign &one : atoms) {
    others.push_back(one.owner);
    row_of_owner[one.owner] = static_cast<int>(atom_of.size());
    atom_of.push_back(one.atom);
  }
  for (const Foreign &one : foreign) row_of[one.atom] = row_of_owner[one.owner];
  ghosts.connect(ours, atom->nlocal, others);
}

/// The pairs that may come within the cutoff before the next neighbour list. All processes come
/// here together.
void PairMlselSchnet::build_graph()
{
  const int nlocal = atom->nlocal;
  in_list.assign(nlocal, -1);
  for (int ii = 0; ii < list->inum; ii++) in_list[list->ilist[ii]] = ii;
  find_owners();
  add_foreign_rows();

  first.assign(nlocal + 1, 0);
  first_foreign.assign(nlocal, 0);
  sender_row.clear();
  sender_atom.clear();
  std::vector<int> others;    // of an atom, which come after its own process's
  for (int i = 0; i < nlocal; i++) {
    first[i] = static_cast<int>(sender_row.size());
    others.clear();
    for_pairs(i, [&](int j) {
      if (row_of[j] >= nlocal) {
        others.push_back(j);
        return;
      }
      // a pair of own atoms stands in the list twice: keep one of the two
      if (row_of[j] < i) return;
      if (row_of[j] == i) {
        const double *a = atom->x[i], *b = atom->x[j];
        const double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
        int axis = 0;
        while (axis < 2 && std::fabs(d[axis]) < 1e-6) axis++;
        if (d[axis] < 0.0) return;
      }
      sender_row.push_back(row_of[j]);
      sender_atom.push_back(j);
    });
    first_foreign[i] = static_cast<int>(sender_row.size());
    for (const int j : others) sender_row.push_back(row_of[j]);
    sender_atom.insert(sender_atom.end(), others.begin(), others.end());
  }
  first[nlocal] = static_cast<int>(sender_row.size());
  graph.n_local = nlocal;
  graph.n_rows = static_cast<int>(atom_of.size());
  graph.first = first.data();
  graph.first_foreign = first_foreign.data();
  graph.sender_row = sender_row.data();
  graph.sender_atom = sender_atom.data();
}

void PairMlselSchnet::set_species()
{
  for (Member &member : members) {
    member.species.resize(graph.n_rows);
    for (int row = 0; row < graph.n_rows; row++) {
      const int kind = kinds[atom->type[atom_of[row]]];
      member.species[row] = kind == NOT_OURS ? NOT_OURS : member.number_here[kind];
    }
    graph.species = member.species.data();
    if (member.model) member.model->set_graph(graph);
  }
  if (!together) return;
  graph.species = members.front().species.data();
  together->set_graph(graph);
}

void PairMlselSchnet::evaluate()
{
  if (members.empty()) error->all(FLERR, "{}: pair_coeff names no model", style);
  double *deviation = wanted("deviation");
  const size_t n = is_mean || deviation ? members.size() : 1;
  results.assign(members.size(), {});
  for (size_t m = 0; m < n; m++) prepare(m);
  if (n > 1 && together)
    compute_compressed(*together, results);
  else if (torch_model)
    compute_torchscript();
  else
    for (size_t m = 0; m < n; m++) compute_compressed(*members[m].model, {&results[m], 1});
  if (double *below = wanted("below")) find_below(below);
  if (deviation) find_deviation(deviation);
  if (is_mean && members.size() > 1) take_mean();
  add_results();
}

/// Room for what a model gives.
void PairMlselSchnet::prepare(size_t m)
{
  Member &member = members[m];
  mlsel::Result &result = results[m];
  member.energies.resize(graph.n_local);
  member.forces.resize(3 * static_cast<size_t>(graph.n_rows));
  if (vflag_atom) member.atom_virials.resize(6 * static_cast<size_t>(graph.n_rows));
  result.energies = member.energies.data();
  result.forces = member.forces.data();
  result.atom_virials = vflag_atom ? member.atom_virials.data() : nullptr;
  result.sigmas = m == 0 ? wanted("sigma") : nullptr;
}

/// How much nearer than in the training set the nearest of an atom's neighbours is, Å.
void PairMlselSchnet::find_below(double *below) const
{
  const Member &member = members.front();
  const size_t n_species = member.file.species.size();
  for (int i = 0; i < graph.n_local; i++) {
    if (member.species[i] < 0) continue;
    const double *held = &member.file.shortest[n_species * member.species[i]];
    for (int c = first[i]; c < first[i + 1]; c++) {
      const int row = sender_row[c];
      const double *a = atom->x[i], *b = atom->x[sender_atom[c]];
      const double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
      const double square = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
      const double shortest = held[member.species[row]];
      if (!(square < shortest * shortest)) continue;
      const double by = shortest - std::sqrt(square);
      below[i] = std::max(below[i], by);
      // the owner of a ghost has this pair, too
      if (row < graph.n_local) below[row] = std::max(below[row], by);
    }
  }
}

/// √⟨|F − ⟨F⟩|²⟩ over the models, eV/Å.
void PairMlselSchnet::find_deviation(double *deviation)
{
  const size_t n = members.size();
  ghosts.use(nullptr);
  std::vector<std::vector<double>> forces(n);
  for (size_t m = 0; m < n; m++) {
    forces[m] = members[m].forces;
    // what this process's atoms do to others'
    if (!ghosts.idle()) ghosts.reverse(forces[m].data(), 3, true);
  }
  for (size_t k = 0; k < 3 * static_cast<size_t>(graph.n_local); k++) {
    double mean = 0.0;
    for (const std::vector<double> &one : forces) mean += one[k] / static_cast<double>(n);
    for (const std::vector<double> &one : forces)
      deviation[k / 3] += (one[k] - mean) * (one[k] - mean) / static_cast<double>(n);
  }
  for (int i = 0; i < graph.n_local; i++) deviation[i] = std::sqrt(deviation[i]);
}

/// The first one's results become those of all.
void PairMlselSchnet::take_mean()
{
  Member &to = members.front();
  const double share = 1.0 / static_cast<double>(members.size());
  const auto add = [&](std::span<double> sum, std::span<const double> one, bool is_last) {
    for (size_t k = 0; k < sum.size(); k++) sum[k] = (sum[k] + one[k]) * (is_last ? share : 1.0);
  };
  for (size_t m = 1; m < members.size(); m++) {
    const Member &from = members[m];
    const bool is_last = m + 1 == members.size();
    add(to.energies, from.energies, is_last);
    add(to.forces, from.forces, is_last);
    add(results[0].virial, results[m].virial, is_last);
    if (vflag_atom) add(to.atom_virials, from.atom_virials, is_last);
  }
}

void PairMlselSchnet::compute_compressed(mlsel::CompressedModel &model,
                                         std::span<mlsel::Result> into)
{
  try {
    model.compute(atom->nlocal + atom->nghost ? atom->x[0] : nullptr,
                  ghosts.idle() ? nullptr : &ghosts, into);
  } catch (const std::exception &exception) {
    error->one(FLERR, "{}: {}", style, exception.what());
  }
}

void PairMlselSchnet::check(const char *cause)
{
  if (cause) error->one(FLERR, "{}: torch fails with {}: {}", style, path, cause);
}

/// Pairs within the cutoff for torch: those of two own atoms first.
void PairMlselSchnet::gather_pairs()
{
  receivers.clear();
  senders.clear();
  vectors.clear();
  const double cutoff_squared = cutoff * cutoff;
  for (const bool mirrored : {true, false})
    for (int i = 0; i < graph.n_local; i++)
      for (int c = first[i]; c < first[i + 1]; c++) {
        if ((sender_row[c] < graph.n_local) != mirrored) continue;
        const double *a = atom->x[i], *b = atom->x[sender_atom[c]];
        const double d[3] = {b[0] - a[0], b[1] - a[1], b[2] - a[2]};
        const double squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        if (!(squared < cutoff_squared)) continue;
        if (squared == 0.0) error->one(FLERR, "{}: two atoms are at the same place", style);
        receivers.push_back(i);
        senders.push_back(sender_row[c]);
        vectors.insert(vectors.end(), d, d + 3);
      }
}

void PairMlselSchnet::compute_torchscript()
{
  const mlsel::ModelFile &file = members.front().file;
  const std::vector<int> &species = members.front().species;
  std::vector<double> &energies = members.front().energies;
  std::vector<double> &forces = members.front().forces;
  std::vector<double> &atom_virials = members.front().atom_virials;
  mlsel::Result &result = results.front();
  gather_pairs();
  numbers.resize(graph.n_rows);
  for (int row = 0; row < graph.n_rows; row++)
    numbers[row] = file.numbers[std::max(0, species[row])];    // those not ours have no pairs
  mlsel_graph step = {};
  step.n_local = graph.n_local;
  step.n_nodes = graph.n_rows;
  step.n_pairs = static_cast<int64_t>(receivers.size());
  while (step.n_mirrored < step.n_pairs && senders[step.n_mirrored] < graph.n_local)
    step.n_mirrored++;
  step.numbers = numbers.data();
  step.receivers = receivers.data();
  step.senders = senders.data();
  step.vectors = vectors.data();
  gradients.assign(vectors.size(), 0.0);

  if (ghosts.idle()) {
    if (graph.n_local)
      check(torch->evaluate(torch_model, &step, energies.data(), gradients.data()));
  } else {
    ghosts.use(nullptr);
    const int n = file.n_layers;
    const bool is_double = file.dtype == "float64";
    const size_t bytes = is_double ? sizeof(double) : sizeof(float);
    features.resize(n + 1);
    for (int k = 0; k <= n; k++)
      features[k].assign(
          (graph.n_rows * file.widths[k] * bytes + sizeof(double) - 1) / sizeof(double), 0.0);
    check(torch->begin(torch_model, &step, features[0].data()));
    for (int k = 0; k < n; k++) {
      if (k > 0) ghosts.forward(features[k].data(), file.widths[k], is_double);
      check(torch->forward(torch_model, k, features[k].data(), file.widths[k],
                           features[k + 1].data(), file.widths[k + 1]));
    }
    // from here on `features` hold gradients
    check(torch->readout(torch_model, energies.data(), features[n].data(), file.widths[n]));
    for (int k = n - 1; k >= 0; k--) {
      std::fill(features[k].begin(), features[k].end(), 0.0);
      check(torch->backward(torch_model, k, features[k + 1].data(), file.widths[k + 1],
                            features[k].data(), file.widths[k]));
      if (k > 0) ghosts.reverse(features[k].data(), file.widths[k], is_double);
    }
    check(torch->finish(torch_model, gradients.data()));
  }

  for (int i = 0; i < graph.n_local; i++)
    energies[i] = species[i] < 0 ? 0.0 : energies[i] + file.energy_offsets[species[i]];
  std::fill(forces.begin(), forces.end(), 0.0);
  std::fill(result.virial, result.virial + 6, 0.0);
  if (result.atom_virials) std::fill(atom_virials.begin(), atom_virials.end(), 0.0);
  result.n_pairs = step.n_pairs;
  for (size_t p = 0; p < receivers.size(); p++) {
    const double *d = &vectors[3 * p], *g = &gradients[3 * p];
    const double v[6] = {-d[0] * g[0],
                         -d[1] * g[1],
                         -d[2] * g[2],
                         -0.5 * (d[0] * g[1] + d[1] * g[0]),
                         -0.5 * (d[0] * g[2] + d[2] * g[0]),
                         -0.5 * (d[1] * g[2] + d[2] * g[1])};
    for (int k = 0; k < 3; k++) {
      forces[3 * receivers[p] + k] += g[k];
      forces[3 * senders[p] + k] -= g[k];
    }
    for (int k = 0; k < 6; k++) {
      result.virial[k] += v[k];
      if (result.atom_virials) {
        atom_virials[6 * receivers[p] + k] += 0.5 * v[k];
        atom_virials[6 * senders[p] + k] += 0.5 * v[k];
      }
    }
  }
}

void PairMlselSchnet::add_results()
{
  const std::vector<double> &energies = members.front().energies;
  const std::vector<double> &forces = members.front().forces;
  const std::vector<double> &atom_virials = members.front().atom_virials;
  const mlsel::Result &result = results.front();
  check_finite({energies, result.virial});
  double total = 0.0;
  for (const double energy : energies) total += energy;
  if (eflag_global) eng_vdwl += total;
  if (eflag_atom)
    for (int i = 0; i < graph.n_local; i++) eatom[i] += energies[i];
  for (int row = 0; row < graph.n_rows; row++) {
    double *f = atom->f[atom_of[row]];
    for (int k = 0; k < 3; k++) f[k] += forces[3 * static_cast<size_t>(row) + k];
  }
  if (vflag_global)
    for (int k = 0; k < 6; k++) virial[k] += result.virial[k];
  if (vflag_atom)
    for (int row = 0; row < graph.n_rows; row++)
      for (int k = 0; k < 6; k++)
        vatom[atom_of[row]][k] += atom_virials[6 * static_cast<size_t>(row) + k];
}

double PairMlselSchnet::memory_usage()
{
  double bytes = Pair::memory_usage();
  bytes += static_cast<double>((in_list.capacity() + row_of.capacity() + atom_of.capacity() +
                                first.capacity() + first_foreign.capacity() +
                                sender_row.capacity() + sender_atom.capacity()) *
                                   sizeof(int) +
                               (owners.capacity() + vectors.capacity() + gradients.capacity() +
                                numbers.capacity() + receivers.capacity() + senders.capacity()) *
                                   sizeof(double));
  for (const auto &one : features) bytes += static_cast<double>(one.capacity() * sizeof(double));
  for (const Member &member : members) {
    bytes += static_cast<double>(
        member.species.capacity() * sizeof(int) +
        (member.energies.capacity() + member.forces.capacity() + member.atom_virials.capacity()) *
            sizeof(double));
    if (member.model) bytes += member.model->memory_usage();
  }
  if (together) bytes += together->memory_usage();
  return bytes;
}

int PairMlselSchnet::pack_forward_comm(int n, int *atoms, double *buffer, int, int *)
{
  for (int k = 0; k < n; k++)
    std::copy_n(&owners[2 * static_cast<size_t>(atoms[k])], 2, buffer + 2 * static_cast<size_t>(k));
  return 2 * n;
}

void PairMlselSchnet::unpack_forward_comm(int n, int begin, double *buffer)
{
  std::copy_n(buffer, 2 * static_cast<size_t>(n),
              owners.begin() + 2 * static_cast<ptrdiff_t>(begin));
}
