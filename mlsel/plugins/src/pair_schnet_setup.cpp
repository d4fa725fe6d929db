// pair_style schnet before its first step: arguments, files, models, threads.

#include "pair_schnet.h"

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "atom.h"
#include "bridge.h"
#include "comm.h"
#include "error.h"
#include "files.h"
#include "ranks.h"
#include "schnet_cuda.h"
#include "utils.h"

using namespace LAMMPS_NS;

static constexpr int MOST_MEMBERS = 64;

// pair_style schnet [compressed|torchscript] [device cpu|cuda|cuda:N] [threads N]
//                   [drive first|mean]
void PairMlselSchnet::settings(int narg, char **arg)
{
  mode = Mode::automatic;
  device = -2;
  on_gpu = false;
  n_threads = 0;
  is_mean = false;
  for (int k = 0; k < narg; k++) {
    const std::string word = arg[k];
    const bool last = k + 1 == narg;
    if (word == "compressed") {
      mode = Mode::compressed;
    } else if (word == "torchscript") {
      mode = Mode::torchscript;
    } else if (word == "device" && !last) {
      const std::string name = arg[++k];
      if (name == "cpu")
        device = -1;
      else if (name == "cuda")
        device = -2;
      else if (name.rfind("cuda:", 0) == 0 && utils::is_integer(name.substr(5)))
        device = std::max(0, std::atoi(name.c_str() + 5));
      else
        error->all(FLERR, "{}: device is {}; it can be cpu, cuda or cuda:N", style, name);
      on_gpu = device != -1;
    } else if (word == "threads" && !last) {
      n_threads = utils::inumeric(FLERR, arg[++k], false, lmp);
      if (n_threads < 1 || n_threads > 1024)
        error->all(FLERR, "{}: threads is {}; it must be between 1 and 1024", style, n_threads);
    } else if (word == "drive" && !last) {
      const std::string name = arg[++k];
      if (name != "first" && name != "mean")
        error->all(FLERR, "{}: drive is {}; it can be first or mean (of a committee)", style, name);
      is_mean = name == "mean";
    } else {
      error->all(FLERR,
                 "{}: {} is not known or lacks its value; compressed, torchscript, "
                 "device cpu|cuda|cuda:N, threads N and drive first|mean are",
                 style, word);
    }
  }
  check_units();
}

// pair_coeff * * model.pt [more models] Na Cl …
void PairMlselSchnet::coeff(int narg, char **arg)
{
  const std::vector<std::string> words =
      type_words(narg, arg, MOST_MEMBERS - 1, "* * file [more files] and one element or NULL");
  close_models();
  std::vector<Member> read;
  for (int k = 2; k < narg - static_cast<int>(words.size()); k++) {
    find_file(arg[k]);
    read.emplace_back().path = path;
    read_model(read.back());
  }
  const mlsel::ModelFile &file = read.front().file;
  path = read.front().path;
  cutoff = 0.0;
  for (const Member &member : read) cutoff = std::max(cutoff, member.file.cutoff);

  std::string known;
  for (const std::string &one : file.species) known += ' ' + one;
  kinds.assign(words.size() + 1, NOT_OURS);
  for (size_t type = 1; type < kinds.size(); type++) {
    const std::string &word = words[type - 1];
    if (word == "NULL") continue;
    const auto found = std::find(file.species.begin(), file.species.end(), word);
    if (found == file.species.end())
      error->all(FLERR, "{} knows nothing of {} (atom type {}), only of{}", path, word, type,
                 known);
    kinds[type] = static_cast<int>(found - file.species.begin());
  }
  members = std::move(read);
  for (Member &member : members) order_species(member);
  open_models();
  set_flags();
}

/// One process reads the file for all, and every one finds the same in it.
void PairMlselSchnet::read_model(Member &member)
{
  std::string bytes, cause;
  if (comm->me == 0) {
    try {
      bytes = mlsel::read_whole(member.path);
    } catch (const std::exception &exception) {
      cause = exception.what();
    }
  }
  agree(cause);
  broadcast(bytes);
  try {
    member.file = mlsel::ModelFile::parse(member.path, std::move(bytes));
  } catch (const std::exception &exception) {
    cause = exception.what();
  }
  agree(cause);
}

/// Models may name the elements in another order; those of our types they must all know.
void PairMlselSchnet::order_species(Member &member)
{
  const std::vector<std::string> &theirs = member.file.species;
  for (const std::string &name : members.front().file.species) {
    const auto found = std::find(theirs.begin(), theirs.end(), name);
    member.number_here.push_back(found == theirs.end() ? NOT_OURS
                                                       : static_cast<int>(found - theirs.begin()));
  }
  for (size_t type = 1; type < kinds.size(); type++)
    if (kinds[type] != NOT_OURS && member.number_here[kinds[type]] == NOT_OURS)
      error->all(FLERR, "{}: {} knows nothing of {}, which {} and atom type {} are for", style,
                 member.path, members.front().file.species[kinds[type]], path, type);
}

/// The compressed mode on a GPU is a library of its own, which needs nvcc to be built.
static mlsel_cuda_function *gpu_maker()
{
  try {
    return mlsel::bridge_function<mlsel_cuda_function>("libmlsel_cuda.so", "mlsel_cuda");
  } catch (const std::exception &exception) {
    throw std::runtime_error(
        "the compressed mode has no GPU part in this build; where nvcc is, run "
        "python -m mlsel.plugins build --cuda; or take device cpu, or "
        "torchscript");
  }
}

void PairMlselSchnet::open_models()
{
  int rank_on_node = 0, n_sharing = 1;
  mlsel::share_node(ours, rank_on_node, n_sharing);
  const int threads = n_threads ? n_threads : mlsel::default_threads(n_sharing);
  const bool is_shared = fit_together();
  const auto attempt = [&](const auto &work) {
    std::string cause;
    try {
      work();
    } catch (const std::exception &exception) {
      cause = exception.what();
    }
    agree(cause);
  };
  if (is_shared)
    attempt([&] {
      std::vector<const mlsel::ModelFile *> all;
      for (const Member &member : members) all.push_back(&member.file);
      together = mlsel::CompressedModel::make(all, threads);
    });
  for (Member &member : members) {
    int device_used = -1;
    // alone there is the first one, in steps that need no others
    if (!is_shared || (&member == &members.front() && !is_mean))
      attempt([&] { open_model(member, threads, rank_on_node, device_used); });
    member.file.compressed.arrays.clear();
    member.file.bytes.clear();
    member.file.bytes.shrink_to_fit();
    const mlsel::CompressedModel *model = member.model ? member.model.get() : together.get();
    if (comm->me == 0)
      utils::logmesg(
          lmp, "{}: {} ({}, {}), {}, {} thread{} on each process\n", style, member.path,
          member.file.model, member.file.dtype,
          model ? std::string("compressed, ") + model->kernel()
                : "torchscript, " +
                  (device_used < 0 ? std::string("cpu") : "cuda:" + std::to_string(device_used)),
          threads, threads == 1 ? "" : "s");
  }
  if (comm->me == 0 && members.size() > 1)
    utils::logmesg(lmp, "{}: a committee of {}, evaluated {}; {} drives\n", style, members.size(),
                   is_shared ? "together" : "one by one", is_mean ? "its mean" : path);
  comm_forward = 2;    // who owns a ghost
}

/// Whether several models are evaluated in one pass over the pairs.
bool PairMlselSchnet::fit_together() const
{
  if (members.size() == 1 || on_gpu || mode == Mode::torchscript) return false;
  return std::all_of(members.begin(), members.end(), [&](const Member &member) {
    return mlsel::CompressedModel::fit_together(members.front().file, member.file);
  });
}

/// What evaluates the first model in the compressed mode, or null.
const mlsel::CompressedModel *PairMlselSchnet::evaluator() const
{
  const mlsel::CompressedModel *alone = members.front().model.get();
  return alone ? alone : together.get();
}

void PairMlselSchnet::open_model(Member &member, int threads, int rank_on_node, int &device_used)
{
  mlsel::ModelFile &file = member.file;
  if (mode == Mode::compressed || (mode == Mode::automatic && file.has_compressed)) {
    if (!file.has_compressed)
      throw std::runtime_error(member.path + ": the file has no tables for the compressed mode");
    if (on_gpu)
      member.model.reset(gpu_maker()(file, device, rank_on_node, &device_used));
    else
      member.model = mlsel::CompressedModel::make(std::vector<const mlsel::ModelFile *>{&file},
                                                  threads);
    return;
  }
  if (members.size() > 1)
    throw std::runtime_error(
        mode == Mode::torchscript
            ? std::string("several models run in the compressed mode alone, not as torchscript")
            : "several models run in the compressed mode alone, and " + member.path +
                " has no tables for it");
  torch = mlsel::bridge_function<mlsel_torch_api_function>("libmlsel_torch.so", "mlsel_torch")();
  const char *answer = torch->open(file.bytes.data(), file.bytes.size(), device, rank_on_node,
                                   threads, file.dtype == "float64", file.n_layers,
                                   file.widths.data(), file.cutoff, &torch_model, &device_used);
  if (answer) throw std::runtime_error(member.path + " cannot be opened by torch: " + answer);
}

void PairMlselSchnet::close_models()
{
  members.clear();
  together.reset();
  if (torch_model) torch->close(torch_model);
  torch_model = nullptr;
}
