(** Lipschitz constants of activations on the real line: tanh and relu have 1, the logistic sigmoid 1/4. *)
From Coq Require Import Reals Lra.
From Deqops Require Import Metric RealLine.
Local Open Scope R_scope.

Definition relu (x : R) : R := Rmax 0 x.
Definition sigmoid (x : R) : R := / (1 + exp (- x)).

Lemma cosh_positive x : 0 < cosh x.
Proof. unfold cosh. pose proof (exp_pos x). pose proof (exp_pos (- x)). lra. Qed.

Lemma cosh_sinh x : cosh x * cosh x = 1 + sinh x * sinh x.
Proof.
  assert (exp x * exp (- x) = 1) by (rewrite <- exp_plus, Rplus_opp_r; exact exp_0).
  unfold cosh, sinh. nra.
Qed.

Lemma tanh_derivative x : derivable_pt_lim tanh x (/ (cosh x * cosh x)).
Proof.
  pose proof (cosh_positive x) as c. pose proof (cosh_sinh x) as h.
  replace (/ (cosh x * cosh x)) with ((cosh x * cosh x - sinh x * sinh x) / Rsqr (cosh x)).
  - apply (derivable_pt_lim_div sinh cosh); [apply derivable_pt_lim_sinh | apply derivable_pt_lim_cosh | lra].
  - replace (cosh x * cosh x - sinh x * sinh x) with 1 by lra. unfold Rsqr. field. lra.
Qed.

(** A derivative that stays within [0, k] gives the constant k. *)
Lemma slopes_bound (phi slope : R -> R) k : (forall x, derivable_pt_lim phi x (slope x)) ->
  (forall x, 0 <= slope x <= k) -> lipschitz line (fun _ => True) k phi.
Proof.
  intros diff range.
  assert (up : forall x y, x < y -> Rabs (phi y - phi x) <= k * Rabs (y - x)).
  { intros x y order. destruct (MVT_cor2 phi slope x y order (fun c _ => diff c)) as [c [mean _]].
    rewrite mean, Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos|].
    rewrite Rabs_right; [apply range | apply Rle_ge, range]. }
  intros y z _ _. simpl. unfold R_dist. destruct (Rtotal_order y z) as [below|[<-|above]].
  - rewrite (Rabs_minus_sym (phi y)), (Rabs_minus_sym y). exact (up y z below).
  - unfold Rminus. rewrite !Rplus_opp_r, Rabs_R0. lra.
  - exact (up z y above).
Qed.

Theorem tanh_lipschitz : lipschitz line (fun _ => True) 1 tanh.
Proof.
  apply slopes_bound with (slope := fun x => / (cosh x * cosh x)); [exact tanh_derivative|].
  intros x. pose proof (cosh_positive x). pose proof (cosh_sinh x). split.
  - left. apply Rinv_0_lt_compat. nra.
  - rewrite <- Rinv_1. apply Rinv_le_contravar; nra.
Qed.

Theorem relu_lipschitz : lipschitz line (fun _ => True) 1 relu.
Proof.
  intros y z _ _. simpl. unfold R_dist, relu, Rmax.
  destruct (Rle_dec 0 y), (Rle_dec 0 z); unfold Rabs; repeat destruct Rcase_abs; lra.
Qed.

Lemma sigmoid_tanh x : sigmoid x = (1 + tanh (x / 2)) / 2.
Proof.
  unfold sigmoid, tanh, sinh, cosh.
  pose proof (exp_pos (x / 2)) as p. pose proof (exp_pos (- (x / 2))) as n.
  assert (one : exp (x / 2) * exp (- (x / 2)) = 1) by (rewrite <- exp_plus, Rplus_opp_r; exact exp_0).
  replace (- x) with (- (x / 2) + - (x / 2)) by field. rewrite exp_plus.
  apply Rmult_eq_reg_l with (1 + exp (- (x / 2)) * exp (- (x / 2))); [|nra].
  rewrite Rinv_r by nra. apply Rmult_eq_reg_l with (exp (x / 2) + exp (- (x / 2))); [|lra].
  field_simplify; [|lra]. nra.
Qed.

Theorem sigmoid_lipschitz : lipschitz line (fun _ => True) (1 / 4) sigmoid.
Proof.
  intros y z Sy Sz. pose proof (tanh_lipschitz (y / 2) (z / 2) I I) as t. simpl in *. unfold R_dist in *.
  rewrite !sigmoid_tanh.
  replace ((1 + tanh (y / 2)) / 2 - (1 + tanh (z / 2)) / 2) with (1 / 2 * (tanh (y / 2) - tanh (z / 2))) by field.
  replace (y / 2 - z / 2) with (1 / 2 * (y - z)) in t by field.
  rewrite Rabs_mult, (Rabs_right (1 / 2)) in * by lra. lra.
Qed.
