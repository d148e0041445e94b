(* Reads one question for an extracted checker from standard input, prints its answer. Numbers are decimal, lists have
   their length in front. *)
open Checkers

let word () = Scanf.scanf " %s" (fun text -> text)
let count () = int_of_string (word ())
let number () = Big_int_Z.big_int_of_string (word ())

let rec several item = function
  | 0 -> []
  | n -> let first = item () in first :: several item (n - 1)

let list item = several item (count ())

let activation () =
  match word () with
  | "Identity" -> Identity
  | "Relu" -> Relu
  | "Tanh" -> Tanh
  | "Sigmoid" -> Sigmoid
  | "Leaky" -> let n = number () in let d = number () in Leaky (n, d)
  | "Clamp" -> let l = number () in let u = number () in let d = number () in Clamp (l, u, d)
  | other -> failwith ("activation " ^ other)

let layer () =
  let phi = activation () in
  let exponents = list number in
  let mantissas = list (fun () -> list number) in
  { phi; exponents; mantissas }

let norm () =
  let unit0 = number () in
  let entries = list number in
  let reciprocals = list number in
  let whole = number () in
  { unit0; entries; reciprocals; whole }

let spectrum () =
  let scale = number () in
  let level = number () in
  let gap = number () in
  let factor = list (fun () -> list number) in
  let numerator = number () in
  let denominator = number () in
  { scale; level; gap; factor; numerator; denominator }

let sup () =
  let n = count () in
  let own = norm () in
  let layers = list layer in
  let hidden = list norm in
  let kn = number () in
  let kd = number () in
  sup_norm_ok n own layers hidden kn kd

let near () =
  let n = count () in
  let own = norm () in
  let w = layer () in
  let kn = number () in
  let kd = number () in
  let rn = number () in
  let rd = number () in
  let pn = number () in
  let pd = number () in
  near_ok n own w kn kd rn rd pn pd

let euclidean () =
  let n = count () in
  let layers = list layer in
  let spectra = list spectrum in
  let kn = number () in
  let kd = number () in
  euclidean_plain_ok n layers spectra kn kd

let () =
  let answer =
    match word () with
    | "sup" -> sup ()
    | "near" -> near ()
    | "euclidean" -> euclidean ()
    | other -> failwith ("checker " ^ other)
  in
  print_endline (if answer then "true" else "false")
