(** T8 [causal], Volterra equations: y(t) = f(t) + lambda times the integral of K(t, s, y(s)) over s from a to t, in
    C[a, b]. Powers of the map contract whatever lambda is, so there is one equilibrium and Picard converges. *)
From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Deqops Require Import Metric BanachSpace Powers ContinuousSpace.
Local Open Scope R_scope.
Set Implicit Arguments.

Section Volterra.
Variables (a b : R) (ordered : a <= b) (kernel : R -> R -> R -> R) (kappa lambda : R).
Notation C := (continuous_space ordered).
Hypothesis kappa_range : 0 <= kappa.
Hypothesis lip : forall t s u v, a <= s <= t -> t <= b ->
  Rabs (kernel t s u - kernel t s v) <= kappa * Rabs (u - v).

(** V y is the curve of the integrals of K(t, s, y(s)) over s from a to t. *)
Definition volterra_operator (V : point C -> point C) : Prop :=
  forall y t, a <= t <= b -> is_RInt (fun s => kernel t s (value y s)) a t (value (V y) t).

Variable V : point C -> point C.
Hypothesis integrals : volterra_operator V.
Variable f : point C.

Definition volterra_map (y : point C) : point C := add C f (scale C lambda (V y)).

(** The factor after n sweeps, at the time t. *)
Definition factor (n : nat) (t : R) : R := (Rabs lambda * kappa * (t - a)) ^ n / INR (fact n).

Lemma power_integral n t c : is_RInt (fun s => c * (s - a) ^ n) a t (c * (t - a) ^ S n / INR (S n)).
Proof.
  assert (N0 : INR (S n) <> 0) by (apply not_0_INR; lia).
  replace (c * (t - a) ^ S n / INR (S n))
    with (minus (c * (t - a) ^ S n / INR (S n)) (c * (a - a) ^ S n / INR (S n))).
  2: { unfold minus, plus, opp. simpl. field. exact N0. }
  apply (is_RInt_derive (fun s => c * (s - a) ^ S n / INR (S n))).
  - intros s _. auto_derive; [exact I|]. change (Init.Nat.pred (S n)) with n.
    change (match n with O => 1 | S _ => INR n + 1 end) with (INR (S n)). change (s + - a) with (s - a).
    field. exact N0.
  - intros s _. apply (ex_derive_continuous (fun s => c * (s - a) ^ n)). auto_derive. exact I.
Qed.

Lemma sweeps_close y z n : forall t, a <= t <= b ->
  Rabs (value (iterate (metric C) volterra_map y n) t - value (iterate (metric C) volterra_map z n) t)
    <= factor n t * norm C (sub C y z).
Proof.
  set (D := norm C (sub C y z)).
  induction n as [|n IH]; intros t inside.
  - unfold factor. simpl. replace (1 / 1 * D) with D by field. exact (largest_above ordered (sub C y z) t).
  - set (u := iterate (metric C) volterra_map y n) in *. set (v := iterate (metric C) volterra_map z n) in *.
    change (Rabs ((value f t + lambda * value (V u) t) - (value f t + lambda * value (V v) t)) <= factor (S n) t * D).
    replace (value f t + lambda * value (V u) t - (value f t + lambda * value (V v) t))
      with (lambda * (value (V u) t - value (V v) t)) by ring.
    rewrite Rabs_mult.
    pose (c := kappa * ((Rabs lambda * kappa) ^ n / INR (fact n) * D)).
    assert (bound : Rabs (value (V u) t - value (V v) t) <= c * (t - a) ^ S n / INR (S n)).
    { apply (norm_RInt_le (fun s => kernel t s (value u s) - kernel t s (value v s)) (fun s => c * (s - a) ^ n) a t).
      - lra.
      - intros s [low high]. change (Rabs (kernel t s (value u s) - kernel t s (value v s)) <= c * (s - a) ^ n).
        apply Rle_trans with (1 := lip _ _ (conj low high) (proj2 inside)).
        assert (within : a <= s <= b) by lra. specialize (IH s within). unfold factor in IH.
        replace (c * (s - a) ^ n) with (kappa * ((Rabs lambda * kappa * (s - a)) ^ n / INR (fact n) * D))
          by (unfold c; rewrite (Rpow_mult_distr (Rabs lambda * kappa)); field; apply INR_fact_neq_0).
        apply Rmult_le_compat_l; assumption.
      - exact (is_RInt_minus _ _ _ _ _ _ (integrals u inside) (integrals v inside)).
      - apply power_integral. }
    apply Rle_trans with (1 := Rmult_le_compat_l _ _ _ (Rabs_pos lambda) bound). right.
    unfold c, factor. rewrite !Rpow_mult_distr. rewrite fact_simpl, mult_INR.
    simpl pow. field. split; [apply INR_fact_neq_0 | apply not_0_INR; lia].
Qed.

(** The sweeps come together like a power over a factorial, in the maximum norm. *)
Theorem volterra_sweeps y z n :
  norm C (sub C (iterate (metric C) volterra_map y n) (iterate (metric C) volterra_map z n))
    <= (Rabs lambda * kappa * (b - a)) ^ n / INR (fact n) * norm C (sub C y z).
Proof.
  apply largest_least. intros t inside.
  apply Rle_trans with (1 := sweeps_close y z n inside).
  apply Rmult_le_compat_r; [apply norm_nonneg|]. unfold factor, Rdiv.
  apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat, INR_fact_lt_0|].
  pose proof (Rmult_le_pos _ _ (Rabs_pos lambda) kappa_range).
  apply pow_incr. split; [apply Rmult_le_pos; lra | apply Rmult_le_compat_l; lra].
Qed.

Theorem volterra : exists s : point C,
  equilibrium (metric C) volterra_map s
  /\ (forall t, equilibrium (metric C) volterra_map t -> t = s)
  /\ (forall y0, tends (metric C) (iterate (metric C) volterra_map y0) s).
Proof.
  destruct (cv_speed_pow_fact (Rabs lambda * kappa * (b - a)) (1 / 2)) as [N HN]; [lra|].
  set (m := S N). specialize (HN m ltac:(unfold m; lia)). unfold R_dist in HN. rewrite Rminus_0_r in HN.
  set (q := Rabs ((Rabs lambda * kappa * (b - a)) ^ m / INR (fact m))) in *.
  assert (range : 0 <= q < 1) by (unfold q in *; split; [apply Rabs_pos | lra]).
  assert (stays : invariant (metric C) (fun _ => True) volterra_map) by (intros y _; exact I).
  assert (power : lipschitz (metric C) (fun _ => True) q (fun y => iterate (metric C) volterra_map y m)).
  { intros y z _ _. apply Rle_trans with (1 := volterra_sweeps y z m).
    apply Rmult_le_compat_r; [apply dist_nonneg | apply Rle_abs]. }
  destruct (@picard_powers (metric C) (fun _ => True) volterra_map m q ltac:(unfold m; lia) range stays power
              (@metric_complete C) (zero C) I) as [s [_ [fixed [only [conv _]]]]].
  exists s. split; [exact fixed|]. split; [intros t ft; exact (only t I ft)|]. intros y0. exact (conv y0 I).
Qed.
End Volterra.
