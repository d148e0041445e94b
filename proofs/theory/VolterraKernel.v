(** T8 [causal], Volterra: kernels that are continuous give operators on C[a, b], so the hypotheses of [volterra] can be
    met: for every such kernel with a constant in y, as for y(t) = f(t) + lambda times the integral of tanh(y(s)). *)
From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From Deqops Require Import Metric BanachSpace ContinuousSpace Volterra RealLine Activations.
Local Open Scope R_scope.
Set Implicit Arguments.

(** Uniformly continuous for t and s in [a, b] and u in each bounded interval, as every continuous kernel is. *)
Definition continuous_kernel (a b : R) (kernel : R -> R -> R -> R) : Prop :=
  forall bound eps, 0 < eps -> exists delta, 0 < delta /\ forall t s u t' s' u',
    a <= t <= b -> a <= t' <= b -> a <= s <= b -> a <= s' <= b -> Rabs u <= bound -> Rabs u' <= bound ->
    Rabs (t - t') < delta -> Rabs (s - s') < delta -> Rabs (u - u') < delta ->
    Rabs (kernel t s u - kernel t' s' u') < eps.

Section Kernel.
Variables (a b : R) (ordered : a <= b) (kernel : R -> R -> R -> R).
Hypothesis kernel_continuous : continuous_kernel a b kernel.
Notation C := (continuous_space ordered).
Notation clamp := (clamp a b).

Section Integral.
Variable y : point C.

Definition integrand (t s : R) : R := kernel (clamp t) (clamp s) (value y s).

Lemma self_distance x eps : 0 < eps -> Rabs (x - x) < eps.
Proof. intros pos. rewrite Rminus_diag_eq, Rabs_R0 by reflexivity. exact pos. Qed.

Lemma integrand_continuous t s : continuous (integrand t) s.
Proof.
  apply continuity_pt_filterlim. intros eps pos.
  destruct (@kernel_continuous (largest ordered y) eps pos) as [delta [delta0 near]].
  assert (c : continuity (value y)) by apply value_continuous.
  destruct (c s delta delta0) as [width [width0 close]].
  exists (Rmin delta width). split; [apply Rmin_glb_lt; assumption|].
  intros r [apart within]. simpl in *. unfold R_dist in *. unfold integrand.
  pose proof (Rmin_l delta width). pose proof (Rmin_r delta width). pose proof (clamp_nonexpansive ordered r s).
  apply near; try apply (clamp_inside ordered); try apply (largest_above ordered);
    [apply self_distance; exact delta0 | lra | apply close; split; [exact apart | lra]].
Qed.

Lemma integrand_integrable t c d : ex_RInt (integrand t) c d.
Proof. apply (ex_RInt_continuous (integrand t)). intros s _. apply integrand_continuous. Qed.

Lemma integrand_integral t c d : is_RInt (integrand t) c d (RInt (integrand t) c d).
Proof. apply (RInt_correct (integrand t)), integrand_integrable. Qed.

Definition integral (t : R) : R := RInt (integrand t) a (clamp t).

Lemma integral_continuous : continuity integral.
Proof.
  intros t eps pos.
  assert (ends : continuity_pt (fun c => RInt (integrand t) a c) (clamp t)).
  { apply continuity_pt_filterlim, (ex_derive_continuous (fun c => RInt (integrand t) a c)).
    exists (integrand t (clamp t)). apply (is_derive_RInt (integrand t) (fun c => RInt (integrand t) a c) a).
    - apply filter_forall. intros c. apply integrand_integral.
    - apply integrand_continuous. }
  destruct (ends (eps / 2)) as [width [width0 close]]; [lra|].
  assert (span : 0 < 2 * (b - a + 1)) by lra.
  assert (part : 0 < eps / (2 * (b - a + 1))) by (apply Rdiv_lt_0_compat; lra).
  destruct (@kernel_continuous (largest ordered y) _ part) as [delta [delta0 near]].
  exists (Rmin delta width). split; [apply Rmin_glb_lt; assumption|].
  intros r [_ within]. simpl in *. unfold R_dist in *.
  pose proof (Rmin_l delta width). pose proof (Rmin_r delta width). pose proof (clamp_nonexpansive ordered r t).
  pose proof (clamp_inside ordered r) as inside.
  unfold integral.
  replace (RInt (integrand r) a (clamp r) - RInt (integrand t) a (clamp t))
    with ((RInt (integrand r) a (clamp r) - RInt (integrand t) a (clamp r))
          + (RInt (integrand t) a (clamp r) - RInt (integrand t) a (clamp t))) by ring.
  apply Rle_lt_trans with (1 := Rabs_triang _ _).
  assert (first : Rabs (RInt (integrand r) a (clamp r) - RInt (integrand t) a (clamp r))
                  <= (clamp r - a) * (eps / (2 * (b - a + 1)))).
  { apply (norm_RInt_le_const (fun s => minus (integrand r s) (integrand t s)) a (clamp r)); [lra | |].
    - intros s _. left. apply near; try apply (clamp_inside ordered); try apply (largest_above ordered);
        [lra | apply self_distance; exact delta0 | apply self_distance; exact delta0].
    - apply (is_RInt_minus (integrand r) (integrand t)); apply integrand_integral. }
  assert (second : Rabs (RInt (integrand t) a (clamp r) - RInt (integrand t) a (clamp t)) < eps / 2).
  { destruct (Req_dec (clamp t) (clamp r)) as [same|other].
    - rewrite same. apply self_distance. lra.
    - apply close. split; [split; [exact I | exact other] | lra]. }
  assert ((clamp r - a) * (eps / (2 * (b - a + 1))) <= eps / 2).
  { replace (eps / 2) with ((b - a + 1) * (eps / (2 * (b - a + 1)))) by (field; lra).
    apply Rmult_le_compat_r; lra. }
  lra.
Qed.

Lemma integral_clamp t : integral t = integral (clamp t).
Proof. unfold integral, integrand. now rewrite !(clamp_keeps (clamp_inside ordered t)). Qed.
End Integral.

Definition kernel_operator (y : point C) : point C :=
  exist (fun f => continuity f /\ forall t, f t = f (clamp t)) (integral y)
    (conj (integral_continuous y) (integral_clamp y)).

Theorem kernel_operator_integrates : @volterra_operator a b ordered kernel kernel_operator.
Proof.
  intros y t inside. simpl. unfold integral. rewrite (clamp_keeps inside).
  apply (is_RInt_ext (integrand y t)).
  - intros s between. rewrite Rmin_left, Rmax_right in between by lra.
    unfold integrand. rewrite !clamp_keeps by lra. reflexivity.
  - apply integrand_integral.
Qed.
End Kernel.

(** y(t) = f(t) + lambda times the integral of tanh(y(s)) over s from a to t. *)
Theorem volterra_instance (a b : R) (ordered : a <= b) (lambda : R) (f : point (continuous_space ordered)) :
  exists s : point (continuous_space ordered),
  (forall t, a <= t <= b -> value s t = value f t + lambda * RInt (fun r => tanh (value s r)) a t)
  /\ (forall s' : point (continuous_space ordered),
       (forall t, a <= t <= b -> value s' t = value f t + lambda * RInt (fun r => tanh (value s' r)) a t) -> s' = s).
Proof.
  pose (kernel := fun _ _ u : R => tanh u).
  assert (lip : forall u v, Rabs (tanh u - tanh v) <= 1 * Rabs (u - v)) by (intros u v; exact (tanh_lipschitz u v I I)).
  assert (smooth : continuous_kernel a b kernel).
  { intros bound eps pos. exists eps. split; [exact pos|]. intros. unfold kernel.
    apply Rle_lt_trans with (1 := lip u u'). lra. }
  pose proof (kernel_operator_integrates ordered smooth) as integrates.
  set (V := @kernel_operator a b ordered kernel smooth) in *.
  assert (sums : forall y t, a <= t <= b -> value (@volterra_map a b ordered lambda V f y) t
            = value f t + lambda * RInt (fun r => tanh (value y r)) a t).
  { intros y t inside. simpl. do 2 f_equal. symmetry. exact (is_RInt_unique _ _ _ _ (integrates y t inside)). }
  destruct (@volterra a b ordered kernel 1 lambda ltac:(lra) (fun _ _ u v _ _ => lip u v) V integrates f)
    as [s [fixed [only _]]].
  exists s. split.
  - intros t inside. rewrite <- (sums s t inside), fixed. reflexivity.
  - intros s' solves. apply only. apply (curve_same ordered). intros t inside. rewrite (sums s' t inside). symmetry.
    exact (solves t inside).
Qed.
